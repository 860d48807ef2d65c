// One time step of a cell, fused: the product with the weights and the cell's equations on the tile
// while it is hot.

// How a cell's slots lie in a panel: [slot][unit], unit_width units, four vectors or so in all, or
// twice as many where a second stage has but one of the slots.
template <class C, class Real>
struct CellPanel {
  static constexpr int kUnitVectors = C::kHasTwoStages ? 2 : 4 / C::kSlots;
  static constexpr int64_t kUnits = kUnitVectors * kLanes<Real>;
  static constexpr int64_t kWidth = C::kSlots * kUnits;
  static constexpr int kGateVectors = C::kGates * kUnitVectors;
  static constexpr int kHiddenVectors = C::kHiddenGates * kUnitVectors;
  static constexpr int kTallest = max_rows(kGateVectors);
};

// What the lanes at `place` of a panel row need beside their states
template <class C, class Real, template <class> class Step>
FASTRNN_INLINE Extras<Vec<Real>> extras_of(const Step<Real>& p, int64_t place) {
  Extras<Vec<Real>> extras = {*p.variant, {}};
  if constexpr (C::kHasPeepholes) {
    if (p.peepholes) {
      for (int s = 0; s < C::kSlots; ++s)
        extras.peephole[s] = load(p.peepholes + place + s * CellPanel<C, Real>::kUnits);
    }
  }
  return extras;
}

// Each row's arithmetic must not depend on its neighbours. That holds as long as the compiler emits
// these equations once: a copy inlined for another tile height might contract other additions into
// fused multiply-adds.
template <class C, class Real>
FASTRNN_NOINLINE void apply_forward(const ForwardStep<Real>& p, const Real* tile,
                                    const ForwardRow<Real>* rows, int64_t count, int64_t panel) {
  typedef CellPanel<C, Real> Panel;
  constexpr int lanes = kLanes<Real>;
  for (int64_t m = 0; m < count; ++m) {
    const ForwardRow<Real>& row = rows[m];
    for (int u = 0; u < Panel::kUnitVectors; ++u) {
      const int64_t unit = panel * Panel::kUnits + u * lanes;
      const int64_t valid = p.H - unit;
      if (valid <= 0) break;
      const Extras<Vec<Real>> extras = extras_of<C>(p, panel * Panel::kWidth + u * lanes);
      Vec<Real> pre[C::kSlots], saved[C::kSlots], h_prev = {}, c_prev = {}, h, c;
      for (int s = 0; s < C::kSlots; ++s)
        pre[s] = load(tile + m * Panel::kWidth + s * Panel::kUnits + u * lanes);
      if constexpr (C::kReadsPreviousHidden) h_prev = load_first(row.h_prev + unit, valid);
      if constexpr (C::kHasCellState) c_prev = load(row.c_prev + unit);
      C::forward(pre, h_prev, c_prev, extras, saved, h, c);
      store_first((C::kHasTwoStages ? row.reset_hidden : row.h) + unit, h, valid);
      if constexpr (C::kHasCellState) store(row.c + unit, c);
      if constexpr (C::kSavesGates) {
        if (row.saved) {
          Real* to = row.saved + panel * Panel::kWidth + u * lanes;
          for (int s = 0; s < C::kSlots; ++s) store(to + s * Panel::kUnits, saved[s]);
        }
      }
    }
  }
}

// The pre-activations before any product: the bias, or the projected input where it has been added
// already.
template <class C, class Real>
FASTRNN_INLINE void start_tile(const ForwardStep<Real>& p, const ForwardRow<Real>* rows, int64_t m,
                               int64_t panel, Real* tile) {
  typedef CellPanel<C, Real> Panel;
  const Real* bias = p.bias + panel * Panel::kWidth;
  for (int64_t i = 0; i < m; ++i) {
    const Real* x = rows[i].x + panel * p.x_panel;
    for (int s = 0; s < C::kSlots; ++s) {
      const int place = s - C::kInputSlot;
      const bool projected = p.I == 0 && place >= 0 && place < C::kGates;
      const Real* from = projected ? x + place * Panel::kUnits : bias + s * Panel::kUnits;
      load_columns(from, Panel::kUnits, tile + i * Panel::kWidth + s * Panel::kUnits,
                   Panel::kUnits);
    }
  }
}

// tile += rows of a times the first columns of the panel. A single row cannot keep the multipliers
// busy with the chains of one panel, and so takes two panels at once.
template <class Real, int N, int P>
FASTRNN_INLINE void multiply_panels(int64_t columns, int64_t m, const Real* const* a, int64_t K,
                                    const Real* panel, Real* tile, int64_t tile_stride) {
  const Steps steps = {{K}, 1};
  if constexpr (P == 1) {
    multiply_columns<Real, N>(columns, m, a, steps, panel, tile, tile_stride);
  } else {
    multiply_tile<Real, 1, N, N, P>(a, steps, panel, K * N * kLanes<Real>, tile, tile_stride);
  }
}

// The rows of one tile and the units of P panels from `panel` on; P is 1 unless m is.
template <class C, class Real, int P>
FASTRNN_INLINE void step_tile(const ForwardStep<Real>& p, const ForwardRow<Real>* rows, int64_t m,
                              int64_t panel, Real* tile) {
  typedef CellPanel<C, Real> Panel;
  constexpr int N = Panel::kGateVectors, hidden = Panel::kHiddenVectors;
  const int64_t from = (panel - p.panel_begin) * kLanes<Real>;
  // Where a panel has one gate, its first columns are the units that it has.
  const int64_t columns = C::kSlots == 1 ? p.H - panel * Panel::kUnits : Panel::kWidth;
  const Real* a[Panel::kTallest];
  for (int i = 0; i < P; ++i) start_tile<C>(p, rows, m, panel + i, tile + i * Panel::kWidth);
  if (p.I > 0) {
    for (int64_t r = 0; r < m; ++r) a[r] = rows[r].x;
    multiply_panels<Real, N, P>(columns, m, a, p.I, p.w_ih + from * N * p.I,
                                tile + C::kInputSlot * Panel::kUnits, Panel::kWidth);
  }
  for (int64_t r = 0; r < m; ++r) a[r] = rows[r].h_prev;
  multiply_panels<Real, hidden, P>(columns, m, a, p.K, p.w_hh + from * hidden * p.K,
                                   tile + C::kHiddenSlot * Panel::kUnits, Panel::kWidth);
  for (int i = 0; i < P; ++i) apply_forward<C>(p, tile + i * Panel::kWidth, rows, m, panel + i);
}

template <class C, class Real>
void forward_step(const ForwardStep<Real>& p) {
  typedef CellPanel<C, Real> Panel;
  constexpr int kPair = 2;
  const Tiling tiling = tile_rows(p.count, Panel::kTallest);
  alignas(64) Real tile[Panel::kTallest * Panel::kWidth];

  for (int64_t i = p.panel_begin; i < p.panel_end;) {
    const int64_t panels = p.count == 1 && i + kPair <= p.panel_end ? kPair : 1;
    const int64_t panel = p.descending ? p.panel_begin + p.panel_end - panels - i : i;
    if (panels == kPair) {
      step_tile<C, Real, kPair>(p, p.rows, 1, panel, tile);
    } else {
      for (int64_t t = 0; t < tiling.tiles; ++t) {
        const int64_t row = tiling.begin(t);
        step_tile<C, Real, 1>(p, p.rows + row, tiling.begin(t + 1) - row, panel, tile);
      }
    }
    i += panels;
  }
}

// The second stage's equations, on what has become of the last slot
template <class C, class Real>
FASTRNN_NOINLINE void apply_forward_last(const ForwardStep<Real>& p, const Real* tile,
                                         const ForwardRow<Real>* rows, int64_t count,
                                         int64_t panel) {
  typedef CellPanel<C, Real> Panel;
  constexpr int lanes = kLanes<Real>;
  const Extras<Vec<Real>> extras = {*p.variant, {}};
  for (int64_t m = 0; m < count; ++m) {
    const ForwardRow<Real>& row = rows[m];
    for (int u = 0; u < Panel::kUnitVectors; ++u) {
      const int64_t unit = panel * Panel::kUnits + u * lanes;
      const int64_t valid = p.H - unit;
      if (valid <= 0) break;
      Real* at = row.saved + panel * Panel::kWidth + u * lanes;
      Vec<Real> saved[C::kSlots];
      for (int s = 0; s + 1 < C::kSlots; ++s) saved[s] = load(at + s * Panel::kUnits);
      saved[C::kSlots - 1] = load(tile + m * Panel::kUnits + u * lanes);
      store(at + (C::kSlots - 1) * Panel::kUnits, saved[C::kSlots - 1]);
      const Vec<Real> h_prev = load_first(row.h_prev + unit, valid);
      store_first(row.h + unit, C::forward_last(saved, h_prev, extras), valid);
    }
  }
}

template <class C, class Real>
void forward_last(const ForwardStep<Real>& p) {
  typedef CellPanel<C, Real> Panel;
  constexpr int N = Panel::kUnitVectors, tallest = max_rows(N);
  const Tiling tiling = tile_rows(p.count, tallest);
  const int64_t last = (C::kSlots - 1) * Panel::kUnits;
  alignas(64) Real tile[tallest * Panel::kUnits];
  const Real* a[tallest];
  for (int64_t panel = p.panel_begin; panel < p.panel_end; ++panel) {
    const Real* weights = p.w_hh + (panel - p.panel_begin) * Panel::kUnits * p.K;
    for (int64_t t = 0; t < tiling.tiles; ++t) {
      const ForwardRow<Real>* rows = p.rows + tiling.begin(t);
      const int64_t m = tiling.begin(t + 1) - tiling.begin(t);
      for (int64_t i = 0; i < m; ++i) {
        a[i] = rows[i].reset_hidden;
        load_columns(rows[i].saved + panel * Panel::kWidth + last, Panel::kUnits,
                     tile + i * Panel::kUnits, Panel::kUnits);
      }
      multiply_panels<Real, N, 1>(p.H - panel * Panel::kUnits, m, a, p.K, weights, tile,
                                  Panel::kUnits);
      apply_forward_last<C>(p, tile, rows, m, panel);
    }
  }
}

// sum += lanes of w_block^T * x for a block of `columns` elements of x
template <class Real, bool kWhole>
FASTRNN_INLINE void add_block(const Real* x, const Real* w, int64_t K, int64_t rows,
                              int64_t columns, Vec<Real>& sum) {
  Vec<Real> block[kLanes<Real>];
  load_transposed<Real, kWhole>(w, K, rows, columns, block);
#pragma GCC unroll 16
  for (int i = 0; i < kLanes<Real>; ++i) {
    if (kWhole || i < columns) sum += broadcast(x[i]) * block[i];
  }
}

// tile += x * w^T for the units of one panel, w as torch keeps it
template <class C, class Real>
FASTRNN_INLINE void multiply_unpacked(const Real* x, const Real* w, int64_t K, int64_t H,
                                      int64_t panel, const int* gate, Real* tile) {
  typedef CellPanel<C, Real> Panel;
  constexpr int lanes = kLanes<Real>, vectors = Panel::kGateVectors;
  Vec<Real> sum[vectors];
  const Real* from[vectors];
  int64_t rows[vectors];
  bool whole = true;
  for (int v = 0; v < vectors; ++v) {
    const int64_t unit = panel * Panel::kUnits + v % Panel::kUnitVectors * lanes;
    sum[v] = load(tile + v * lanes);
    from[v] = w + (gate[v / Panel::kUnitVectors] * H + unit) * K;
    rows[v] = H - unit;
    whole = whole && rows[v] >= lanes;
  }
  int64_t k = 0;
  if (whole) {
    for (; k + lanes <= K; k += lanes) {
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v)
        add_block<Real, true>(x + k, from[v] + k, K, lanes, lanes, sum[v]);
    }
  }
  for (; k < K; k += lanes) {
    for (int v = 0; v < vectors; ++v)
      add_block<Real, false>(x + k, from[v] + k, K, rows[v], K - k, sum[v]);
  }
  for (int v = 0; v < vectors; ++v) store(tile + v * lanes, sum[v]);
}

template <class C, class Real>
void forward_row(const ForwardStep<Real>& p) {
  typedef CellPanel<C, Real> Panel;
  alignas(64) Real tile[Panel::kWidth];
  const ForwardRow<Real>& row = *p.rows;
  for (int64_t panel = p.panel_begin; panel < p.panel_end; ++panel) {
    start_tile<C>(p, &row, 1, panel, tile);
    multiply_unpacked<C>(row.x, p.w_ih, p.I, p.H, panel, C::kGateOfSlot + C::kInputSlot,
                         tile + C::kInputSlot * Panel::kUnits);
    multiply_unpacked<C>(row.h_prev, p.w_hh, p.K, p.H, panel, C::kGateOfSlot + C::kHiddenSlot,
                         tile + C::kHiddenSlot * Panel::kUnits);
    apply_forward<C>(p, tile, &row, 1, panel);
  }
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
          h = load_first(row.h + unit, valid);
        }
        if constexpr (C::kReadsPreviousHidden) h_prev = load_first(row.h_prev + unit, valid);
        if constexpr (C::kHasCellState) {
          c = load(row.c + unit);
          c_prev = load(row.c_prev + unit);
          d_c = load(row.d_c + unit);
        }
        Vec<Real> d_h = load(row.d_h + unit);
        if (row.d_y) d_h += load_first(row.d_y + unit, valid);
        const Extras<Vec<Real>> extras = extras_of<C>(p, panel * Panel::kWidth + u * lanes);
        C::backward(saved, h, h_prev, c_prev, c, extras, d_pre, d_h, d_c);
        for (int s = 0; s < C::kSlots; ++s) store_first(to + s * units, d_pre[s], valid);
        if constexpr (C::kReadsPreviousHidden) store(row.d_h + unit, d_h);
        if constexpr (C::kHasCellState) store(row.d_c + unit, d_c);
      }
    }
  }
}

template <class C, class Real>
FASTRNN_NOINLINE void backward_last(const BackwardStep<Real>& p) {
  typedef CellPanel<C, Real> Panel;
  constexpr int lanes = kLanes<Real>;
  const Extras<Vec<Real>> extras = {*p.variant, {}};
  for (int64_t panel = p.panel_begin; panel < p.panel_end; ++panel) {
    for (int64_t m = 0; m < p.count; ++m) {
      const BackwardRow<Real>& row = p.rows[m];
      for (int u = 0; u < Panel::kUnitVectors; ++u) {
        const int64_t unit = panel * Panel::kUnits + u * lanes;
        const int64_t valid = p.H - unit;
        if (valid <= 0) break;
        const Real* from = row.saved + panel * Panel::kWidth + u * lanes;
        Vec<Real> saved[C::kSlots];
        for (int s = 0; s < C::kSlots; ++s) saved[s] = load(from + s * Panel::kUnits);
        Vec<Real> d_h = load(row.d_h + unit);
        const Vec<Real> d_pre = C::backward_last(saved, load_first(row.h_prev + unit, valid),
                                                 load(row.d_reset + unit), extras, d_h);
        store_first(row.d_pre + panel * p.d_pre_panel + u * lanes, d_pre, valid);
        store(row.d_h + unit, d_h);
      }
    }
  }
}
