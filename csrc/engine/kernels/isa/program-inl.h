// The forward steps of cells that were written as programs: products with panels by slot, then the
// code of a stage (interpret-inl.h).

// How many of `left` panels are taken at once: three at the most, and none is left over alone.
FASTRNN_INLINE int64_t up_to_three(int64_t left) { return left == 4 ? 2 : left < 3 ? left : 3; }

// Calls visit(panel, panels) for the panels of a step in groups whose units a block holds together:
// of a single row as many as there is room for, if they are full; otherwise each alone.
template <class Real, class Step, class Visit>
FASTRNN_INLINE void each_group(const Step& p, bool descending, Visit visit) {
  static_assert(kBlockVectors >= 3 * kColumnVectors, "a block holds three panels of a row");
  const int64_t full = p.H / ProgramBlock<Real>::kWidth;  // only the last one may be another
  int64_t low = p.panel_begin, high = p.panel_end;
  while (low < high) {
    const bool alone = p.count > 1 || (descending ? high > full : low >= full);
    const int64_t panels = alone ? 1 : up_to_three((high < full ? high : full) - low);
    visit(descending ? high - panels : low, panels);
    low += descending ? 0 : panels;
    high -= descending ? panels : 0;
  }
}

// Products of some segments, slot by slot with a segment's units in each. An absent one is null:
// the input's, where the rows know it as their projected input, and the hidden state's, where it is
// zero.
template <class Real>
struct ProgramShares {
  const Real* input;
  const Real* hidden;
};

// Where the code of a stage finds its operands
template <class Real>
FASTRNN_INLINE void set_places(const ForwardStep<Real>& p, const Code& code,
                               const ProgramShares<Real>& shares, const ForwardRow<Real>* rows,
                               const ProgramBlock<Real>& block, Places<Real>* places) {
  constexpr int64_t width = ProgramBlock<Real>::kWidth;
  const ProgramStep<Real>& own = *p.program;
  places->set_registers(block, own.registers);
  each_place(code.places | own.of_rows.places, [&](int place) {
    const Real* share = place == Operand::kInput ? shares.input : shares.hidden;
    switch (place) {
      case Operand::kInput:
        places->set(block, place, width, [&](const Segment& at) {
          if (!share) return rows[at.row].x + at.panel * p.x_panel;
          share += own.input.count * width;
          return share - own.input.count * width;
        });
        break;
      case Operand::kRecurrent:
        places->set(block, place, share ? width : 0, [&](const Segment&) {
          if (!share) return &kNoShare<Real>[0];
          share += own.product.count * width;
          return share - own.product.count * width;
        });
        break;
      case Operand::kBias:
        places->set(block, place, width,
                    [&](const Segment& at) { return p.bias + at.panel * own.slots * width; });
        break;
      default:
        if (place < Operand::kOperands) {
          set_place(own, p.H, rows, block, place, places);
        } else {
          const int product = place - Operand::kOperands;
          places->set(block, place, 0,
                      [&](const Segment& at) { return rows[at.row].operands[product] + at.unit; });
        }
    }
  });
}

template <class Real>
void run_forward(const ForwardStep<Real>& p, const ProgramShares<Real>& shares,
                 const ForwardRow<Real>* rows, const ProgramBlock<Real>& block) {
  const ProgramStep<Real>& own = *p.program;
  const Code& code = block.is_full() ? own.whole : own.part;
  Places<Real> places;
  set_places(p, code, shares, rows, block, &places);
  run_rows(own, rows, block, places);
  const Walk segments = walk_of(block), registers = walk_of_registers(block);
  const PlacedInstruction *at = code.first, *const end = code.first + code.count;
  while ((at = compute(at, end, places, segments, registers)) < end)
    run_other(own, rows, block, places, *at++);
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

// The panels of each of some slots: bytes from one slot's to the next one's, and from panel to
// panel
struct SlotPanels {
  const void* first;
  int slots;
  int64_t slot, panel;
};

// to[i] = the product of a single row with the i-th of some panels, two or three at once
template <class F>
void multiply_list(int64_t columns, const LeftOf<F>* const* a, const float* scale, int64_t K,
                   const void* panels, int64_t count, int64_t stride, NumberOf<F>* to,
                   int64_t to_stride, typename TilesOf<F>::Type& tiles) {
  constexpr int N = kColumnVectors;
  for (int64_t left = count, some; left > 0; left -= some) {
    some = up_to_three(left);
    if (some == 1) {
      multiply_block<F, N>(columns, Tiling{1, 1}, 0, 1, a, Pieces(Runs{K}), 1, panels, to,
                           to_stride, tiles, scale);
    } else if (some == 2) {
      multiply_panels<F, N, 2>(*a, K, panels, stride, to, to_stride, tiles, *scale);
    } else {
      multiply_panels<F, N, 3>(*a, K, panels, stride, to, to_stride, tiles, *scale);
    }
    panels = at_byte(panels, some * stride);
    to += some * to_stride;
  }
}

// shares[row][slot] = the product of a row with a panel of each slot; of a single row,
// shares[panel][slot] for several panels, or slots, at once: of which there are more.
template <class F>
void multiply_slots(int64_t columns, const Tiling& tiling, int64_t begin, int64_t end,
                    const LeftOf<F>* const* a, const float* scales, int64_t K, const SlotPanels& w,
                    int64_t panels, NumberOf<F>* shares, typename TilesOf<F>::Type& tiles) {
  constexpr int64_t width = kColumnVectors * kLanes<NumberOf<F>>;
  if (tiling.rows == 1 && panels <= w.slots) {
    for (int64_t i = 0; i < panels; ++i) {
      multiply_list<F>(columns, a, scales, K, at_byte(w.first, i * w.panel), w.slots, w.slot,
                       shares + i * w.slots * width, width, tiles);
    }
    return;
  }
  for (int s = 0; s < w.slots; ++s) {
    const void* first = at_byte(w.first, s * w.slot);
    NumberOf<F>* to = shares + s * width;
    if (tiling.rows == 1) {
      multiply_list<F>(columns, a, scales, K, first, panels, w.panel, to, w.slots * width, tiles);
    } else {
      multiply_block<F, kColumnVectors>(columns, tiling, begin, end, a, Pieces(Runs{K}), 1, first,
                                        to, w.slots * width, tiles, scales);
    }
  }
}

// Tiles of rows whose products wait together: as many as keep them in the first-level cache
constexpr int kProgramSlotTiles = 4 * kTilesAtOnce;
FASTRNN_INLINE int64_t tiles_of_program(int slots) {
  const int64_t tiles = slots > 0 ? kProgramSlotTiles / slots : kTilesAtOnce;
  return tiles < 1 ? 1 : tiles < kTilesAtOnce ? tiles : kTilesAtOnce;
}

// The bias joins the products of some segments with the input's slots.
template <class Real>
FASTRNN_INLINE void add_bias_to_slots(const ForwardStep<Real>& p, const ProgramBlock<Real>& block,
                                      Real* input) {
  const ProgramStep<Real>& own = *p.program;
  each_segment(block, [&](int64_t, const Segment& at) {
    const Real* bias = p.bias + (at.panel * own.slots + own.input.first) * block.kWidth;
    for (int64_t j = 0; j < own.input.count * block.kWidth;
         j += kLanes<Real>, input += kLanes<Real>)
      store(input, load(bias + j) + load(input));
  });
}

// The projected input comes from afar, and is there when the product is done.
template <class Real>
FASTRNN_INLINE void fetch_projected_slots(const ForwardStep<Real>& p, const ForwardRow<Real>* rows,
                                          const ProgramBlock<Real>& block) {
  const int64_t size = p.program->input.count * block.kWidth;
  each_segment(block, [&](int64_t, const Segment& at) {
    const Real* from = rows[at.row].x + at.panel * p.x_panel;
    for (int64_t j = 0; j < size; j += kLine<Real>) __builtin_prefetch(from + j);
  });
}

// The products of some segments, where a step has them: those of the tiles begin .. end
template <class F>
ProgramShares<NumberOf<F>> multiply_for_program(const ForwardStep<NumberOf<F>>& p,
                                                const StepLefts<F>& lefts, const Tiling& tiling,
                                                int64_t begin, int64_t end,
                                                const ProgramBlock<NumberOf<F>>& block,
                                                typename TilesOf<F>::Type& tiles) {
  typedef NumberOf<F> Real;
  constexpr int64_t width = ProgramBlock<Real>::kWidth;
  const ProgramStep<Real>& own = *p.program;
  const int64_t first = tiling.begin(begin), count = tiling.begin(end) - first;
  const int64_t panels = block.segments / count, from = block.first.panel - p.panel_begin;
  const int inputs = p.I > 0 ? own.input.count : 0, hidden = p.K > 0 ? own.product.count : 0;
  Real* of_input = own.shares;
  Real* of_hidden = own.shares + block.segments * inputs * width;
  const LeftOf<F>* a[kRowsAtOnce<kColumnVectors>];
  float scales[kRowsAtOnce<kColumnVectors>] = {};
  if (inputs > 0) {
    const int64_t panel = panel_bytes<F>(p.I, width);
    lefts.list_inputs(first, count, a, scales);
    multiply_slots<F>(block.valid, tiling, begin, end, a, scales, p.I,
                      {at_byte(p.w_ih, from * panel), inputs, own.w_ih_slot, panel}, panels,
                      of_input, tiles);
    add_bias_to_slots(p, block, of_input);
  } else if (hidden > 0 && own.reads_input) {
    fetch_projected_slots(p, p.rows + first, block);
  }
  // With heads, panels meet different features.
  const int64_t together = own.heads == 1 ? panels : 1;
  for (int64_t i = 0; hidden > 0 && i < panels; i += together) {
    const PanelRange<Real> range(own, p.H, p.K, block.first.panel + i);
    lefts.list_states(first, count, range.begin, a, scales);
    multiply_slots<F>(
        block.valid, tiling, begin, end, a, scales, range.length,
        {at_byte(p.w_hh, (from + i) * own.w_hh_panel), hidden, own.w_hh_slot, own.w_hh_panel},
        together, of_hidden + i * hidden * width, tiles);
  }
  return {inputs > 0 ? of_input : nullptr, hidden > 0 ? of_hidden : nullptr};
}

template <class F>
void program_forward(const ForwardStep<NumberOf<F>>& p) {
  typedef NumberOf<F> Real;
  typedef ProgramBlock<Real> Block;
  const ProgramStep<Real>& own = *p.program;
  const Tiling tiling = tile_rows(p.count, max_rows(kColumnVectors));
  const StepLefts<F> lefts(p, own.product_number);
  typename TilesOf<F>::Type held;
  const int64_t tiles = tiles_of_program(own.input.count + own.product.count);
  each_group<Real>(p, p.descending, [&](int64_t panel, int64_t panels) {
    for (int64_t t = 0; t < tiling.tiles; t += tiles) {
      const int64_t end = t + tiles < tiling.tiles ? t + tiles : tiling.tiles;
      const ForwardRow<Real>* rows = p.rows + tiling.begin(t);
      const int64_t count = tiling.begin(end) - tiling.begin(t);
      const Block all(p.H, panel, panels, count);
      const int64_t at_once = all.rows_at_once();
      ProgramShares<Real> shares = multiply_for_program<F>(p, lefts, tiling, t, end, all, held);
      for (int64_t r = 0; r < count; r += at_once) {
        const int64_t left = count - r;
        const Block block(p.H, panel, panels, left < at_once ? left : at_once);
        run_forward(p, shares, rows + r, block);
        const int64_t passed = block.segments * Block::kWidth;
        if (shares.input) shares.input += passed * own.input.count;
        if (shares.hidden) shares.hidden += passed * own.product.count;
      }
    }
  });
}

// shares[panel][slot] = x * w^T for some panels of each slot, w as torch keeps it
template <class From, class Real>
void multiply_unpacked_slots(const ForwardStep<Real>& p, const ProgramBlock<Real>& block,
                             const Slots& slots, const Real* x, const void* w, int64_t K,
                             Real* shares) {
  const int* gates = p.program->gate_of_slot + slots.first;
  each_segment(block, [&](int64_t, const Segment& at) {
    for (int s = 0; s < slots.count; ++s, shares += block.kWidth) {
      multiply_unpacked<Real, 1, kColumnVectors>(x, static_cast<const From*>(w), K, p.H, at.panel,
                                                 gates + s, shares);
    }
  });
}

// What program_forward does for one row, with dense weights as torch keeps them
template <class From, class Real>
FASTRNN_NOINLINE void program_forward_row_of(const ForwardStep<Real>& p) {
  typedef ProgramBlock<Real> Block;
  const ProgramStep<Real>& own = *p.program;
  const bool descending = false;
  each_group<Real>(p, descending, [&](int64_t panel, int64_t panels) {
    const Block block(p.H, panel, panels, 1);
    Real* input = own.shares;
    Real* hidden = input + block.segments * own.input.count * Block::kWidth;
    multiply_unpacked_slots<From>(p, block, own.input, p.rows->x, p.w_ih, p.I, input);
    add_bias_to_slots(p, block, input);
    if (p.K > 0) {
      multiply_unpacked_slots<From>(p, block, own.product, p.rows->before[kHidden], p.w_hh, p.K,
                                    hidden);
    }
    run_forward(p, ProgramShares<Real>{input, p.K > 0 ? hidden : nullptr}, p.rows, block);
  });
}

template <class Real>
void program_forward_row(const ForwardStep<Real>& p) {
  with_source<Real>(p.source, [&](auto number) { program_forward_row_of<decltype(number)>(p); });
}
