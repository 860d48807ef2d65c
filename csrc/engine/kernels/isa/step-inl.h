// One time step of a cell, fused: the product with the weights and the cell's equations on the tile
// while it is hot.

// How a cell's slots lie in a panel: [slot][unit], unit_width units, four vectors or so in all.
template <class C, class Real>
struct CellPanel {
  static constexpr int kUnitVectors = 4 / C::kSlots;
  static constexpr int64_t kUnits = kUnitVectors * kLanes<Real>;
  static constexpr int64_t kWidth = C::kSlots * kUnits;
  static constexpr int kGateVectors = C::kGates * kUnitVectors;
  static constexpr int kTallest = max_rows(kGateVectors);
  static constexpr int kRowsAtOnce = kTilesAtOnce * kTallest;
};

// What the pre-activations of some rows are made of, with kWidth elements from row to row: the
// product of the input with its gates, still without their bias, or null where the rows know it,
// with the bias, as their projected input; and the product of the hidden state with its gates. The
// former is complete before the latter, summed from zero as well, is added: a sum of small numbers
// is not rounded at the size of a large one. The equations leave what they have computed in its
// place.
template <class Real>
struct Shares {
  const Real* input;
  Real* hidden;
};

template <class C, class Real>
FASTRNN_INLINE void add_shares(const ForwardStep<Real>& p, const Real* input, bool projected,
                               const Real* hidden, const Real* bias, Vec<Real> (&pre)[C::kSlots]) {
  constexpr int64_t units = CellPanel<C, Real>::kUnits;
  for (int s = 0; s < C::kSlots; ++s) {
    const int gate = s - C::kInputSlot, hidden_gate = s - C::kHiddenSlot;
    const bool has_input = gate >= 0 && gate < C::kGates;
    pre[s] = load(has_input ? input + gate * units : bias + s * units);
    if (has_input && !projected) pre[s] += load(bias + s * units);
    if (p.K > 0 && hidden_gate >= 0 && hidden_gate < C::kGates)
      pre[s] += load(hidden + hidden_gate * units);
  }
}

// Each row's arithmetic must not depend on its neighbours. That holds as long as the compiler emits
// these equations once: a copy inlined for another tile height might contract other additions into
// fused multiply-adds.
//
// A processor can look ahead to some of a chain of equations, not to all of it. Where the second
// half waits for the first, all rows pass the first before any passes the second.
template <class C, class Real>
FASTRNN_NOINLINE void apply_forward(const ForwardStep<Real>& p, const Shares<Real>& shares,
                                    const ForwardRow<Real>* rows, int64_t count, int64_t panel) {
  typedef CellPanel<C, Real> Panel;
  constexpr int lanes = kLanes<Real>;
  const Real* bias = p.bias + panel * Panel::kWidth;
  const int64_t first = panel * Panel::kUnits;
  for (int64_t m = 0; m < count; ++m) {
    const ForwardRow<Real>& row = rows[m];
    const bool projected = !shares.input;
    const Real* input = projected ? row.x + panel * p.x_panel : shares.input + m * Panel::kWidth;
    Real* hidden = shares.hidden + m * Panel::kWidth;
    Real* kept = C::kSavesGates && row.saved ? row.saved + panel * Panel::kWidth : hidden;
    for (int u = 0; u < Panel::kUnitVectors; ++u) {
      const int64_t at = u * lanes, unit = first + at;
      if (unit >= p.H) break;
      Vec<Real> pre[C::kSlots];
      add_shares<C>(p, input + at, projected, hidden + at, bias + at, pre);
      if constexpr (C::kSavesGates) {
        Vec<Real> saved[C::kSlots], c_prev = {}, c;
        if constexpr (C::kStates > 1) c_prev = load(row.before[1] + unit);
        C::open(pre, c_prev, saved, c);
        if constexpr (C::kStates > 1) store(row.after[1] + unit, c);
        for (int s = 0; s < C::kSlots; ++s) store(kept + at + s * Panel::kUnits, saved[s]);
      } else {
        store_first(row.after[kHidden] + unit, C::value(pre[0]), p.H - unit);
      }
    }
  }
  if constexpr (C::kSavesGates) {
    for (int64_t m = 0; m < count; ++m) {
      const ForwardRow<Real>& row = rows[m];
      Real* kept =
          row.saved ? row.saved + panel * Panel::kWidth : shares.hidden + m * Panel::kWidth;
      for (int u = 0; u < Panel::kUnitVectors; ++u) {
        const int64_t at = u * lanes, unit = first + at, valid = p.H - unit;
        if (valid <= 0) break;
        Vec<Real> saved[C::kSlots], h_prev = {}, c = {};
        for (int s = 0; s < C::kSlots; ++s) saved[s] = load(kept + at + s * Panel::kUnits);
        if constexpr (C::kReadsPreviousHidden)
          h_prev = load_first(row.before[kHidden] + unit, valid);
        if constexpr (C::kStates > 1) c = load(row.after[1] + unit);
        const Vec<Real> h = C::close(saved, h_prev, c);
        store_first(row.after[kHidden] + unit, h, valid);
        for (int s = C::kClosedSlot; s < C::kSlots; ++s)
          store(kept + at + s * Panel::kUnits, saved[s]);
      }
    }
  }
}

// Where a panel has one gate, its first columns are the units that it has.
template <class C, class Real>
FASTRNN_INLINE int64_t columns_of(const ForwardStep<Real>& p, int64_t panel) {
  typedef CellPanel<C, Real> Panel;
  return C::kSlots == 1 ? p.H - panel * Panel::kUnits : Panel::kWidth;
}

// The projected input comes from afar, and is there when the product is done.
template <class C, class Real>
FASTRNN_INLINE void fetch_projected(const ForwardStep<Real>& p, const ForwardRow<Real>* rows,
                                    int64_t count, int64_t panel) {
  for (int64_t r = 0; r < count; ++r) {
    for (int64_t j = 0; j < C::kGates * CellPanel<C, Real>::kUnits; j += kLine<Real>)
      __builtin_prefetch(rows[r].x + panel * p.x_panel + j);
  }
}

// The tiles begin .. end of the rows and the units of one panel
template <class C, class F>
void step_block(const ForwardStep<NumberOf<F>>& p, const StepLefts<F>& lefts, const Tiling& tiling,
                int64_t begin, int64_t end, int64_t panel, typename TilesOf<F>::Type& tiles) {
  typedef NumberOf<F> Real;
  typedef CellPanel<C, Real> Panel;
  constexpr int N = Panel::kGateVectors;
  const int64_t first = tiling.begin(begin), count = tiling.begin(end) - first;
  const ForwardRow<Real>* rows = p.rows + first;
  const int64_t from = panel - p.panel_begin;
  const int64_t columns = columns_of<C>(p, panel);
  alignas(64) Real input[Panel::kRowsAtOnce * Panel::kWidth];
  alignas(64) Real hidden[Panel::kRowsAtOnce * Panel::kWidth];
  const LeftOf<F>* a[Panel::kRowsAtOnce];
  float scales[Panel::kRowsAtOnce];
  if (p.I > 0) {
    lefts.list_inputs(first, count, a, scales);
    multiply_block<F, N>(columns, tiling, begin, end, a, Pieces(Runs{p.I}), 1,
                         panel_at<F, N>(p.w_ih, from, p.I), input, Panel::kWidth, tiles, scales);
  }
  if (p.I == 0) fetch_projected<C>(p, rows, count, panel);
  if (p.K > 0) {
    lefts.list_states(first, count, 0, a, scales);
    multiply_block<F, N>(columns, tiling, begin, end, a, Pieces(Runs{p.K}), 1,
                         panel_at<F, N>(p.w_hh, from, p.K), hidden, Panel::kWidth, tiles, scales);
  }
  apply_forward<C>(p, Shares<Real>{p.I > 0 ? input : nullptr, hidden}, rows, count, panel);
}

template <class C, class F>
void step_pair(const ForwardStep<NumberOf<F>>& p, const StepLefts<F>& lefts, int64_t panel,
               typename TilesOf<F>::Type& tiles) {
  typedef NumberOf<F> Real;
  typedef CellPanel<C, Real> Panel;
  constexpr int N = Panel::kGateVectors;
  const int64_t from = panel - p.panel_begin;
  alignas(64) Real input[2 * Panel::kWidth], hidden[2 * Panel::kWidth];
  const LeftOf<F>* a;
  float scale;
  if (p.I > 0) {
    lefts.list_inputs(0, 1, &a, &scale);
    multiply_panels<F, N>(a, p.I, panel_at<F, N>(p.w_ih, from, p.I),
                          panel_bytes<F>(p.I, N * kLanes<Real>), input, Panel::kWidth, tiles,
                          scale);
  }
  if (p.K > 0) {
    lefts.list_states(0, 1, 0, &a, &scale);
    multiply_panels<F, N>(a, p.K, panel_at<F, N>(p.w_hh, from, p.K),
                          panel_bytes<F>(p.K, N * kLanes<Real>), hidden, Panel::kWidth, tiles,
                          scale);
  }
  for (int i = 0; i < 2; ++i) {
    const Shares<Real> shares = {p.I > 0 ? input + i * Panel::kWidth : nullptr,
                                 hidden + i * Panel::kWidth};
    apply_forward<C>(p, shares, p.rows, 1, panel + i);
  }
}

template <class C, class F>
void forward_step(const ForwardStep<NumberOf<F>>& p) {
  typedef CellPanel<C, NumberOf<F>> Panel;
  constexpr int kPair = 2;
  const Tiling tiling = tile_rows(p.count, Panel::kTallest);
  const StepLefts<F> lefts(p, 0);
  typename TilesOf<F>::Type tiles;
  for (int64_t i = p.panel_begin; i < p.panel_end;) {
    const int64_t panels = p.count == 1 && i + kPair <= p.panel_end ? kPair : 1;
    const int64_t panel = p.descending ? p.panel_begin + p.panel_end - panels - i : i;
    if (panels == kPair) {
      step_pair<C, F>(p, lefts, panel, tiles);
    } else {
      for (int64_t t = 0; t < tiling.tiles; t += kTilesAtOnce) {
        const int64_t end = end_of_block(tiling, t, kTilesAtOnce);
        step_block<C, F>(p, lefts, tiling, t, end, panel, tiles);
      }
    }
    i += panels;
  }
}

// sum += lanes of w_block^T * x for a block of `columns` elements of x
template <class Real, bool kWhole, class From>
FASTRNN_INLINE void add_block(const Real* x, const From* w, int64_t K, int64_t rows,
                              int64_t columns, Vec<Real>& sum) {
  Vec<Real> block[kLanes<Real>];
  load_transposed<Real, kWhole>(w, K, rows, columns, block);
#pragma GCC unroll 32
  for (int i = 0; i < kBlockColumns<Real, From>; ++i) {
    if (kWhole || i < columns) sum += broadcast(x[i]) * column_of<From, Real>(block, i);
  }
}

// tile = x * w^T for the units of one panel, so many vectors of them for each of the gates, w as
// torch keeps it
template <class Real, int kGates, int kUnitVectors, class From>
FASTRNN_INLINE void multiply_unpacked(const Real* x, const From* w, int64_t K, int64_t H,
                                      int64_t panel, const int* gate, Real* tile) {
  constexpr int lanes = kLanes<Real>, vectors = kGates * kUnitVectors;
  constexpr int columns = kBlockColumns<Real, From>;
  const From* from[vectors];
  int64_t rows[vectors];
  bool whole = true;
  for (int v = 0; v < vectors; ++v) {
    const int64_t unit = (panel * kUnitVectors + v % kUnitVectors) * lanes;
    from[v] = w + (gate[v / kUnitVectors] * H + unit) * K;
    rows[v] = H - unit;
    whole = whole && rows[v] >= lanes;
  }
  const Pieces pieces(Runs{K});
  for (int64_t i = 0; i < pieces.count; ++i) {
    const int64_t end = pieces[i].begin + pieces[i].k.run;
    int64_t k = pieces[i].begin;
    Vec<Real> sum[vectors] = {};
    if (whole) {
      for (; k + columns <= end; k += columns) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v)
          add_block<Real, true>(x + k, from[v] + k, K, lanes, columns, sum[v]);
      }
    }
    for (; k < end; k += columns) {
      for (int v = 0; v < vectors; ++v)
        add_block<Real, false>(x + k, from[v] + k, K, rows[v], end - k, sum[v]);
    }
    for (int v = 0; v < vectors; ++v)
      store(tile + v * lanes, i == 0 ? sum[v] : load(tile + v * lanes) + sum[v]);
  }
}

// Out of line, each source has the registers to itself.
template <class C, class From, class Real>
FASTRNN_NOINLINE void forward_row_of(const ForwardStep<Real>& p) {
  typedef CellPanel<C, Real> Panel;
  alignas(64) Real input[Panel::kWidth], hidden[Panel::kWidth];
  const ForwardRow<Real>& row = *p.rows;
  for (int64_t panel = p.panel_begin; panel < p.panel_end; ++panel) {
    multiply_unpacked<Real, C::kGates, Panel::kUnitVectors>(row.x, static_cast<const From*>(p.w_ih),
                                                            p.I, p.H, panel,
                                                            C::kGateOfSlot + C::kInputSlot, input);
    multiply_unpacked<Real, C::kGates, Panel::kUnitVectors>(
        row.before[kHidden], static_cast<const From*>(p.w_hh), p.K, p.H, panel,
        C::kGateOfSlot + C::kHiddenSlot, hidden);
    apply_forward<C>(p, Shares<Real>{input, hidden}, &row, 1, panel);
  }
}

template <class C, class Real>
void forward_row(const ForwardStep<Real>& p) {
  with_source<Real>(p.source, [&](auto number) { forward_row_of<C, decltype(number)>(p); });
}

// The slots of d_pre stand as close together as the panel has units, so that later products pass
// over those that it has and no others.
template <class C, class Real>
FASTRNN_NOINLINE void backward_step(const BackwardStep<Real>& p) {
  typedef CellPanel<C, Real> Panel;
  constexpr int lanes = kLanes<Real>;
  for (int64_t panel = p.panel_begin; panel < p.panel_end; ++panel) {
    const int64_t left = p.H - panel * Panel::kUnits;
    const int64_t units = left < Panel::kUnits ? left : Panel::kUnits;
    for (int64_t m = 0; m < p.count; ++m) {
      const BackwardRow<Real>& row = p.rows[m];
      for (int u = 0; u < Panel::kUnitVectors; ++u) {
        const int64_t unit = panel * Panel::kUnits + u * lanes;
        const int64_t valid = p.H - unit;
        if (valid <= 0) break;
        Real* to = row.d_pre + panel * p.d_pre_panel + u * lanes;
        Vec<Real> saved[C::kSlots] = {}, d_pre[C::kSlots], h = {}, h_prev = {}, c = {}, c_prev = {},
                  d_c = {};
        if constexpr (C::kSavesGates) {
          const Real* from = row.saved + panel * Panel::kWidth + u * lanes;
          for (int s = 0; s < C::kSlots; ++s) saved[s] = load(from + s * Panel::kUnits);
        } else {
          h = load_first(row.after[kHidden] + unit, valid);
        }
        if constexpr (C::kReadsPreviousHidden)
          h_prev = load_first(row.before[kHidden] + unit, valid);
        if constexpr (C::kStates > 1) {
          c = load(row.after[1] + unit);
          c_prev = load(row.before[1] + unit);
          d_c = load(row.d_states[1] + unit);
        }
        Vec<Real> d_h = load(row.d_states[kHidden] + unit);
        if (row.d_y) d_h += load_first(row.d_y + unit, valid);
        C::backward(saved, h, h_prev, c_prev, c, d_pre, d_h, d_c);
        for (int s = 0; s < C::kSlots; ++s) store_first(to + s * units, d_pre[s], valid);
        if constexpr (C::kReadsPreviousHidden) store(row.d_states[kHidden] + unit, d_h);
        if constexpr (C::kStates > 1) store(row.d_states[1] + unit, d_c);
      }
    }
  }
}
