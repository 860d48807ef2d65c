// One time step of a cell, fused: the product with the weights and the cell's equations on the tile
// while it is hot.

// How a cell's slots lie in a panel: [slot][unit], unit_width units, four vectors or so in all.
template <class C, class Real>
struct CellPanel {
  static constexpr int kUnitVectors = C::kSlots == 1 ? 4 : 1;
  static constexpr int64_t kUnits = kUnitVectors * kLanes<Real>;
  static constexpr int64_t kWidth = C::kSlots * kUnits;
  static constexpr int kGateVectors = C::kGates * kUnitVectors;
  static constexpr int kTallest = max_rows(kGateVectors);
};

// Each row's arithmetic must not depend on its neighbours. That holds as long as the compiler emits
// these equations once: a copy inlined for another tile height might contract other additions into
// fused multiply-adds.
template <class C, class Real>
FASTRNN_NOINLINE void apply_forward(const Real* tile, const ForwardRow<Real>* rows, int64_t count,
                                    int64_t panel, int64_t H) {
  typedef CellPanel<C, Real> Panel;
  constexpr int lanes = kLanes<Real>;
  for (int64_t m = 0; m < count; ++m) {
    const ForwardRow<Real>& row = rows[m];
    for (int u = 0; u < Panel::kUnitVectors; ++u) {
      const int64_t unit = panel * Panel::kUnits + u * lanes;
      const int64_t valid = H - unit;
      if (valid <= 0) break;
      Vec<Real> pre[C::kSlots], saved[C::kSlots], h_prev = {}, c_prev = {}, h, c;
      for (int s = 0; s < C::kSlots; ++s)
        pre[s] = load(tile + m * Panel::kWidth + s * Panel::kUnits + u * lanes);
      if constexpr (C::kReadsPreviousHidden) h_prev = load_first(row.h_prev + unit, valid);
      if constexpr (C::kHasCellState) c_prev = load(row.c_prev + unit);
      C::forward(pre, h_prev, c_prev, saved, h, c);
      store_first(row.h + unit, h, valid);
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

template <class C, class Real>
void forward_step(const ForwardStep<Real>& p) {
  typedef CellPanel<C, Real> Panel;
  constexpr int N = Panel::kGateVectors;
  constexpr int64_t gate_width = N * kLanes<Real>;
  const Tiling tiling = tile_rows(p.count, Panel::kTallest);
  alignas(64) Real tile[Panel::kTallest * Panel::kWidth];

  for (int64_t i = p.panel_begin; i < p.panel_end; ++i) {
    const int64_t panel = p.descending ? p.panel_begin + p.panel_end - 1 - i : i;
    for (int64_t t = 0; t < tiling.tiles; ++t) {
      const ForwardRow<Real>* rows = p.rows + tiling.begin(t);
      const int64_t m = tiling.begin(t + 1) - tiling.begin(t);
      const Real* a[Panel::kTallest];
      start_tile<C>(p, rows, m, panel, tile);
      if (p.I > 0) {
        for (int64_t r = 0; r < m; ++r) a[r] = rows[r].x;
        multiply_rows<Real, N>(m, a, Steps{p.I, 1, 1, 0},
                               p.w_ih + (panel - p.panel_begin) * p.I * gate_width,
                               tile + C::kInputSlot * Panel::kUnits, Panel::kWidth);
      }
      for (int64_t r = 0; r < m; ++r) a[r] = rows[r].h_prev;
      multiply_rows<Real, N>(m, a, Steps{p.K, 1, 1, 0},
                             p.w_hh + (panel - p.panel_begin) * p.K * gate_width,
                             tile + C::kHiddenSlot * Panel::kUnits, Panel::kWidth);
      apply_forward<C>(tile, rows, m, panel, p.H);
    }
  }
}

// Units beyond H get a gradient of zero whatever their lanes hold, since later products run over
// them.
template <class C, class Real>
FASTRNN_NOINLINE void backward_step(const BackwardStep<Real>& p) {
  typedef CellPanel<C, Real> Panel;
  constexpr int lanes = kLanes<Real>;
  for (int64_t panel = p.panel_begin; panel < p.panel_end; ++panel) {
    for (int64_t m = 0; m < p.count; ++m) {
      const BackwardRow<Real>& row = p.rows[m];
      for (int u = 0; u < Panel::kUnitVectors; ++u) {
        const int64_t unit = panel * Panel::kUnits + u * lanes;
        const int64_t valid = p.H - unit;
        Real* to = row.d_pre + panel * p.d_pre_panel + u * lanes;
        if (valid <= 0) {
          for (int s = 0; s < C::kSlots; ++s) store(to + s * Panel::kUnits, Vec<Real>{});
          continue;
        }
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
        C::backward(saved, h, h_prev, c_prev, c, d_pre, d_h, d_c);
        for (int s = 0; s < C::kSlots; ++s)
          store(to + s * Panel::kUnits, keep_first<Real>(d_pre[s], valid));
        if constexpr (C::kReadsPreviousHidden) store(row.d_h + unit, d_h);
        if constexpr (C::kHasCellState) store(row.d_c + unit, d_c);
      }
    }
  }
}
