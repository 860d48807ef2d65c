// The steps of cells that were written as programs: products with panels by slot, then the code of
// a stage (interpret-inl.h).

// ---- forward ----

// Products of some rows, slot by slot with a panel's units in each. An absent one is null: the
// input's, where the rows know it as their projected input, and the hidden state's, where it is
// zero.
template <class Real>
struct ProgramShares {
  const Real* input;
  const Real* hidden;
};

template <class Real>
void run_forward(const ForwardStep<Real>& p, const ProgramShares<Real>& shares,
                 const ForwardRow<Real>* rows, const ProgramBlock<Real>& block, int64_t panel) {
  constexpr int64_t width = kColumnVectors * kLanes<Real>;
  const ProgramStep<Real>& own = *p.program;
  const int64_t unit = block.unit;
  const Real* bias = p.bias + panel * own.slots * width;
  const auto input = [&](int64_t m, int slot) {
    const int at = slot - own.input.first;
    if (shares.input) return shares.input + (m * own.input.count + at) * width;
    return rows[m].x + panel * p.x_panel + at * width;
  };
  const auto hidden = [&](int64_t m, int slot) {
    return shares.hidden + (m * own.product.count + slot - own.product.first) * width;
  };
  const auto saved = [&](int64_t m, int k) {
    return rows[m].saved + (panel * own.kept + k) * width;
  };
  const Instruction* const end = own.code.first + own.code.count;
  for (const Instruction* at = own.code.first; at < end;) {
    Real* to = own.registers + at->to * kRegister<Real>;
    const Real* from = own.registers + at->a * kRegister<Real>;
    const int a = at->a, number = at->to;
    switch (at->op) {
      case Op::input:
        take(block, to, [&](int64_t m) { return input(m, a); });
        break;
      case Op::pre:
        if (shares.hidden) {
          take_sum(
              block, to, [&](int64_t m) { return input(m, a); },
              [&](int64_t m) { return hidden(m, a); });
        } else {
          take(block, to, [&](int64_t m) { return input(m, a); });
        }
        break;
      case Op::hidden: {
        const bool biased = a < own.input.first || a >= own.input.first + own.input.count;
        const Vec<Real> zero = {};
        for (int64_t m = 0, i = 0; m < block.rows; ++m) {
          for (int j = 0; j < block.vectors; ++j, i += kLanes<Real>) {
            const int64_t lane = j * kLanes<Real>;
            const Vec<Real> start = biased ? load(bias + a * width + lane) : zero;
            store(to + i, shares.hidden ? start + load(hidden(m, a) + lane) : start);
          }
        }
        break;
      }
      case Op::state:
        if (a == kHidden) {
          take_first(block, to, [&](int64_t m) { return rows[m].before[kHidden] + unit; });
        } else {
          take(block, to, [&](int64_t m) { return rows[m].before[a] + unit; });
        }
        break;
      case Op::kept:
        take(block, to, [&](int64_t m) { return saved(m, a); });
        break;
      case Op::vector:
        take_first(block, to, [&](int64_t) { return own.vectors + a * p.H + unit; });
        break;
      case Op::extra:
        take_extra(own, block, a, to, [&](int64_t m) { return rows[m].extras; });
        break;
      case Op::constant:
        take_number(block, to, [&](int64_t) { return own.constants[a]; });
        break;
      case Op::sum:
        take_number(block, to,
                    [&](int64_t m) { return sum_of_panels(rows[m].sums, a, own.panels); });
        break;
      case Op::set_state:
        if (number == kHidden) {
          give_first(block, from, [&](int64_t m) { return rows[m].after[kHidden] + unit; });
        } else {
          give(block, from, [&](int64_t m) { return rows[m].after[number] + unit; });
        }
        break;
      case Op::set_operand:
        give_first(block, from, [&](int64_t m) { return rows[m].operands[number] + unit; });
        break;
      case Op::keep:
        give(block, from, [&](int64_t m) { return saved(m, number); });
        break;
      case Op::add_to_sum:
        for (int64_t m = 0; m < block.rows; ++m) {
          add_to_sum(block, panel, from + m * block.vectors * kLanes<Real>, number, own.panels,
                     rows[m].sums);
        }
        break;
      default:
        at = compute(at, end, own.registers, block.size());
        continue;
    }
    ++at;
  }
}

// Of a product over K features of which a panel meets those of its units' heads alone
template <class Real>
struct PanelRange {
  PanelRange(const ProgramStep<Real>& own, int64_t H, int64_t K, int64_t panel)
      : begin(0), length(K) {
    if (own.heads == 1) return;
    const int64_t of_head = H / own.heads, first = panel * kColumnVectors * kLanes<Real>;
    const int64_t end = first + kColumnVectors * kLanes<Real>, last = (end < H ? end : H) - 1;
    begin = first / of_head * of_head;
    length = (last / of_head + 1) * of_head - begin;
  }
  int64_t begin, length;
};

// shares[row][slot] = the product of a row with a panel of each slot. A single row takes two slots
// at once (see multiply_pair).
template <class Real>
void multiply_slots(int64_t columns, const Tiling& tiling, int64_t begin, int64_t end,
                    const Real* const* a, int64_t K, const Real* panels, int64_t slot_stride,
                    int slots, Real* shares) {
  constexpr int64_t width = kColumnVectors * kLanes<Real>;
  const Pieces pieces(Runs{K});
  int s = 0;
  if (tiling.rows == 1) {
    for (; s + 1 < slots; s += 2) {
      for (int64_t i = 0; i < pieces.count; ++i) {
        const typename Pieces::Piece piece = pieces[i];
        const Real* at[] = {a[0] + piece.a};
        multiply_tile<Real, 1, kColumnVectors, kColumnVectors, 2>(
            at, {piece.k, 1}, panels + s * slot_stride + piece.begin * width, slot_stride, i > 0,
            shares + s * width, width);
      }
    }
  }
  for (; s < slots; ++s) {
    multiply_block<Real, kColumnVectors>(columns, tiling, begin, end, a, pieces, 1,
                                         panels + s * slot_stride, shares + s * width,
                                         slots * width);
  }
}

// Tiles of rows whose products wait together: as many as keep them in the first-level cache
constexpr int kProgramSlotTiles = 4 * kTilesAtOnce;
FASTRNN_INLINE int64_t tiles_of_program(int slots) {
  const int64_t tiles = slots > 0 ? kProgramSlotTiles / slots : kTilesAtOnce;
  return tiles < 1 ? 1 : tiles < kTilesAtOnce ? tiles : kTilesAtOnce;
}

// The products of some rows with a panel, where a step has them
template <class Real>
ProgramShares<Real> multiply_for_program(const ForwardStep<Real>& p, const Tiling& tiling,
                                         int64_t begin, int64_t end, int64_t panel) {
  constexpr int64_t width = kColumnVectors * kLanes<Real>;
  const ProgramStep<Real>& own = *p.program;
  const ForwardRow<Real>* rows = p.rows + tiling.begin(begin);
  const int64_t count = tiling.begin(end) - tiling.begin(begin);
  const int64_t from = panel - p.panel_begin, columns = p.H - panel * width;
  const int inputs = p.I > 0 ? own.input.count : 0, hidden = p.K > 0 ? own.product.count : 0;
  Real* of_input = own.shares;
  Real* of_hidden = own.shares + count * inputs * width;
  const Real* a[kRowsAtOnce<kColumnVectors>];
  if (inputs > 0) {
    for (int64_t r = 0; r < count; ++r) a[r] = rows[r].x;
    multiply_slots(columns, tiling, begin, end, a, p.I, p.w_ih + from * width * p.I, own.w_ih_slot,
                   inputs, of_input);
    const Real* bias = p.bias + (panel * own.slots + own.input.first) * width;
    for (Real* row = of_input; row < of_hidden; row += inputs * width) {
      for (int64_t j = 0; j < inputs * width; j += kLanes<Real>)
        store(row + j, load(bias + j) + load(row + j));
    }
  }
  if (hidden > 0) {
    const PanelRange<Real> range(own, p.H, p.K, panel);
    for (int64_t r = 0; r < count; ++r) {
      const Real* operand =
          own.product_number == 0 ? rows[r].before[kHidden] : rows[r].operands[own.product_number];
      a[r] = operand + range.begin;
    }
    multiply_slots(columns, tiling, begin, end, a, range.length, p.w_hh + from * own.w_hh_panel,
                   own.w_hh_slot, hidden, of_hidden);
  }
  return {inputs > 0 ? of_input : nullptr, hidden > 0 ? of_hidden : nullptr};
}

template <class Real>
void program_forward(const ForwardStep<Real>& p) {
  constexpr int64_t width = kColumnVectors * kLanes<Real>;
  const ProgramStep<Real>& own = *p.program;
  const Tiling tiling = tile_rows(p.count, max_rows(kColumnVectors));
  const int64_t tiles = tiles_of_program(own.input.count + own.product.count);
  for (int64_t i = p.panel_begin; i < p.panel_end; ++i) {
    const int64_t panel = p.descending ? p.panel_begin + p.panel_end - 1 - i : i;
    const int64_t at_once = ProgramBlock<Real>(p.H, panel, 0).rows_at_once();
    for (int64_t t = 0; t < tiling.tiles; t += tiles) {
      const int64_t end = t + tiles < tiling.tiles ? t + tiles : tiling.tiles;
      const ForwardRow<Real>* rows = p.rows + tiling.begin(t);
      const int64_t count = tiling.begin(end) - tiling.begin(t);
      ProgramShares<Real> shares = multiply_for_program(p, tiling, t, end, panel);
      for (int64_t r = 0; r < count; r += at_once) {
        const int64_t left = count - r, some = left < at_once ? left : at_once;
        run_forward(p, shares, rows + r, ProgramBlock<Real>(p.H, panel, some), panel);
        if (shares.input) shares.input += some * own.input.count * width;
        if (shares.hidden) shares.hidden += some * own.product.count * width;
      }
    }
  }
}

// ---- backward ----

template <class Real>
void run_backward(const BackwardStep<Real>& p, const BackwardRow<Real>* rows,
                  const ProgramBlock<Real>& block, int64_t panel) {
  constexpr int64_t width = kColumnVectors * kLanes<Real>;
  const ProgramStep<Real>& own = *p.program;
  const int64_t unit = block.unit, units = block.valid < width ? block.valid : width;
  const Instruction* const end = own.code.first + own.code.count;
  for (const Instruction* at = own.code.first; at < end;) {
    Real* to = own.registers + at->to * kRegister<Real>;
    const Real* from = own.registers + at->a * kRegister<Real>;
    const int a = at->a, number = at->to;
    switch (at->op) {
      case Op::state:
      case Op::after: {
        const auto state = [&](int64_t m) {
          return (at->op == Op::state ? rows[m].before[a] : rows[m].after[a]) + unit;
        };
        if (a == kHidden) {
          take_first(block, to, state);
        } else {
          take(block, to, state);
        }
        break;
      }
      case Op::kept:
        take(block, to, [&](int64_t m) { return rows[m].saved + (panel * own.kept + a) * width; });
        break;
      case Op::vector:
        take_first(block, to, [&](int64_t) { return own.vectors + a * p.H + unit; });
        break;
      case Op::extra:
        take_extra(own, block, a, to, [&](int64_t m) { return rows[m].extras; });
        break;
      case Op::constant:
        take_number(block, to, [&](int64_t) { return own.constants[a]; });
        break;
      case Op::sum:
        take_number(block, to,
                    [&](int64_t m) { return sum_of_panels(rows[m].sums, a, own.panels); });
        break;
      case Op::d_state:
        take(block, to, [&](int64_t m) { return rows[m].d_states[a] + unit; });
        if (a == kHidden) add_from_above(block, rows, to);
        break;
      case Op::d_operand:
        take(block, to, [&](int64_t m) { return rows[m].d_operands[a] + unit; });
        break;
      case Op::temp:
        take(block, to, [&](int64_t m) { return rows[m].temps + (panel * own.temps + a) * width; });
        break;
      case Op::add_to_sum:
        for (int64_t m = 0; m < block.rows; ++m) {
          add_to_sum(block, panel, from + m * block.vectors * kLanes<Real>, number, own.panels,
                     rows[m].sums);
        }
        break;
      case Op::set_d_pre:
        give_first(block, from, [&](int64_t m) {
          return rows[m].d_pre + panel * p.d_pre_panel + number * units;
        });
        break;
      case Op::set_d_state:
        give(block, from, [&](int64_t m) { return rows[m].d_states[number] + unit; });
        break;
      case Op::set_temp:
        give(block, from,
             [&](int64_t m) { return rows[m].temps + (panel * own.temps + number) * width; });
        break;
      case Op::add_d_extra:
        for (int64_t m = 0; m < block.rows; ++m) {
          Real* row = rows[m].d_extras + number * own.extras_width + unit;
          for (int j = 0; j < block.vectors; ++j, from += kLanes<Real>)
            store(row + j * kLanes<Real>, load(row + j * kLanes<Real>) + load(from));
        }
        break;
      default:
        at = compute(at, end, own.registers, block.size());
        continue;
    }
    ++at;
  }
}

// What was kept for some rows and a panel. It lies far apart for different rows, so that the
// processor does not see it coming.
template <class Real>
void prefetch_kept(const ProgramStep<Real>& own, const BackwardRow<Real>* rows, int64_t count,
                   int64_t panel) {
  constexpr int64_t line = 64 / sizeof(Real);
  const int64_t size = own.kept * kColumnVectors * kLanes<Real>;
  for (int64_t m = 0; m < count; ++m) {
    const Real* from = rows[m].saved + panel * size;
    for (int64_t i = 0; i < size; i += line) __builtin_prefetch(from + i);
  }
}

template <class Real>
void program_backward(const BackwardStep<Real>& p) {
  for (int64_t panel = p.panel_begin; panel < p.panel_end; ++panel) {
    const int64_t at_once = ProgramBlock<Real>(p.H, panel, 0).rows_at_once();
    for (int64_t r = 0; r < p.count; r += at_once) {
      const int64_t left = p.count - r, some = left < at_once ? left : at_once;
      if (some < left) {
        prefetch_kept(*p.program, p.rows + r + some, left < 2 * some ? left - some : some, panel);
      } else if (panel + 1 < p.panel_end) {
        prefetch_kept(*p.program, p.rows, p.count < some ? p.count : some, panel + 1);
      }
      run_backward(p, p.rows + r, ProgramBlock<Real>(p.H, panel, some), panel);
    }
  }
}
