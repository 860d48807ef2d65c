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
template <class F>
void multiply_slots(int64_t columns, const Tiling& tiling, int64_t begin, int64_t end,
                    const LeftOf<F>* const* a, const float* scales, int64_t K, const void* panels,
                    int64_t slot_stride, int slots, NumberOf<F>* shares) {
  constexpr int64_t width = kColumnVectors * kLanes<NumberOf<F>>;
  const Pieces pieces(Runs{K});
  int s = 0;
  if (tiling.rows == 1) {
    for (; s + 1 < slots; s += 2) {
      multiply_pair<F, kColumnVectors>(a[0], K, at_byte(panels, s * slot_stride), slot_stride,
                                       shares + s * width, width, *scales);
    }
  }
  for (; s < slots; ++s) {
    multiply_block<F, kColumnVectors>(columns, tiling, begin, end, a, pieces, 1,
                                      at_byte(panels, s * slot_stride), shares + s * width,
                                      slots * width, scales);
  }
}

// Tiles of rows whose products wait together: as many as keep them in the first-level cache
constexpr int kProgramSlotTiles = 4 * kTilesAtOnce;
FASTRNN_INLINE int64_t tiles_of_program(int slots) {
  const int64_t tiles = slots > 0 ? kProgramSlotTiles / slots : kTilesAtOnce;
  return tiles < 1 ? 1 : tiles < kTilesAtOnce ? tiles : kTilesAtOnce;
}

// The bias joins the product of a row with the input's slots of a panel.
template <class Real>
FASTRNN_INLINE void add_bias_to_slots(const ForwardStep<Real>& p, int64_t panel, Real* input) {
  constexpr int64_t width = kColumnVectors * kLanes<Real>;
  const ProgramStep<Real>& own = *p.program;
  const Real* bias = p.bias + (panel * own.slots + own.input.first) * width;
  for (int64_t j = 0; j < own.input.count * width; j += kLanes<Real>)
    store(input + j, load(bias + j) + load(input + j));
}

// The products of some rows with a panel, where a step has them
template <class F>
ProgramShares<NumberOf<F>> multiply_for_program(const ForwardStep<NumberOf<F>>& p,
                                                const StepLefts<F>& lefts, const Tiling& tiling,
                                                int64_t begin, int64_t end, int64_t panel) {
  typedef NumberOf<F> Real;
  constexpr int64_t width = kColumnVectors * kLanes<Real>;
  const ProgramStep<Real>& own = *p.program;
  const int64_t first = tiling.begin(begin), count = tiling.begin(end) - first;
  const int64_t from = panel - p.panel_begin, columns = p.H - panel * width;
  const int inputs = p.I > 0 ? own.input.count : 0, hidden = p.K > 0 ? own.product.count : 0;
  Real* of_input = own.shares;
  Real* of_hidden = own.shares + count * inputs * width;
  const LeftOf<F>* a[kRowsAtOnce<kColumnVectors>];
  float scales[kRowsAtOnce<kColumnVectors>] = {};
  if (inputs > 0) {
    lefts.list_inputs(first, count, a, scales);
    multiply_slots<F>(columns, tiling, begin, end, a, scales, p.I,
                      panel_at<F, kColumnVectors>(p.w_ih, from, p.I), own.w_ih_slot, inputs,
                      of_input);
    for (Real* row = of_input; row < of_hidden; row += inputs * width)
      add_bias_to_slots(p, panel, row);
  }
  if (hidden > 0) {
    const PanelRange<Real> range(own, p.H, p.K, panel);
    lefts.list_states(first, count, range.begin, a, scales);
    multiply_slots<F>(columns, tiling, begin, end, a, scales, range.length,
                      at_byte(p.w_hh, from * own.w_hh_panel), own.w_hh_slot, hidden, of_hidden);
  }
  return {inputs > 0 ? of_input : nullptr, hidden > 0 ? of_hidden : nullptr};
}

template <class F>
void program_forward(const ForwardStep<NumberOf<F>>& p) {
  typedef NumberOf<F> Real;
  constexpr int64_t width = kColumnVectors * kLanes<Real>;
  const ProgramStep<Real>& own = *p.program;
  const Tiling tiling = tile_rows(p.count, max_rows(kColumnVectors));
  const StepLefts<F> lefts(p, own.product_number);
  const int64_t tiles = tiles_of_program(own.input.count + own.product.count);
  for (int64_t i = p.panel_begin; i < p.panel_end; ++i) {
    const int64_t panel = p.descending ? p.panel_begin + p.panel_end - 1 - i : i;
    const int64_t at_once = ProgramBlock<Real>(p.H, panel, 0).rows_at_once();
    for (int64_t t = 0; t < tiling.tiles; t += tiles) {
      const int64_t end = t + tiles < tiling.tiles ? t + tiles : tiling.tiles;
      const ForwardRow<Real>* rows = p.rows + tiling.begin(t);
      const int64_t count = tiling.begin(end) - tiling.begin(t);
      ProgramShares<Real> shares = multiply_for_program<F>(p, lefts, tiling, t, end, panel);
      for (int64_t r = 0; r < count; r += at_once) {
        const int64_t left = count - r, some = left < at_once ? left : at_once;
        run_forward(p, shares, rows + r, ProgramBlock<Real>(p.H, panel, some), panel);
        if (shares.input) shares.input += some * own.input.count * width;
        if (shares.hidden) shares.hidden += some * own.product.count * width;
      }
    }
  }
}

// shares[slot] = x * w^T for the units of one panel of each slot, w as torch keeps it
template <class Real>
void multiply_unpacked_slots(const ForwardStep<Real>& p, const Slots& slots, const Real* x,
                             const void* w, int64_t K, int64_t panel, Real* shares) {
  const int* gates = p.program->gate_of_slot + slots.first;
  for (int s = 0; s < slots.count; ++s) {
    multiply_unpacked<Real, 1, kColumnVectors>(x, static_cast<const Real*>(w), K, p.H, panel,
                                               gates + s,
                                               shares + s * kColumnVectors * kLanes<Real>);
  }
}

// What program_forward does for one row, with dense weights as torch keeps them
template <class Real>
void program_forward_row(const ForwardStep<Real>& p) {
  const ProgramStep<Real>& own = *p.program;
  Real* input = own.shares;
  Real* hidden = input + own.input.count * kColumnVectors * kLanes<Real>;
  const ProgramShares<Real> shares = {input, p.K > 0 ? hidden : nullptr};
  for (int64_t panel = p.panel_begin; panel < p.panel_end; ++panel) {
    multiply_unpacked_slots(p, own.input, p.rows->x, static_cast<const Real*>(p.w_ih), p.I, panel,
                            input);
    add_bias_to_slots(p, panel, input);
    if (shares.hidden) {
      multiply_unpacked_slots(p, own.product, p.rows->before[kHidden],
                              static_cast<const Real*>(p.w_hh), p.K, panel, hidden);
    }
    run_forward(p, shares, p.rows, ProgramBlock<Real>(p.H, panel, 1), panel);
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
