// Weights and rows into panels (see ../kernels.h), once a call.

// v[i] = row i of a block of w, columns k .. k + lanes; rows and columns beyond the matrix are zero.
template <class Real>
FASTRNN_INLINE void load_block(const Real* w, int64_t K, int64_t k, int64_t rows, Vec<Real> (&v)[kLanes<Real>]) {
  for (int i = 0; i < kLanes<Real>; ++i) v[i] = i < rows ? load_first(w + i * K + k, K - k) : Vec<Real>{};
}

template <class Real>
void pack_gates(const PackGates<Real>& p) {
  constexpr int lanes = kLanes<Real>;
  const int64_t width = p.gates * p.unit_width;
  for (int64_t panel = p.panel_begin; panel < p.panel_end; ++panel) {
    Real* out = p.panels + panel * p.K * width;
    for (int g = 0; g < p.gates; ++g) {
      for (int64_t j = 0; j < p.unit_width; j += lanes) {
        const int64_t unit = panel * p.unit_width + j;
        const Real* w = p.w + (p.gate[g] * p.units + unit) * p.K;
        for (int64_t k = 0; k < p.K; k += lanes) {
          Vec<Real> block[lanes];
          load_block(w, p.K, k, p.units - unit, block);
          transpose<Real>(block);
          Real* to = out + k * width + g * p.unit_width + j;
          for (int i = 0; i < lanes && k + i < p.K; ++i) store(to + i * width, block[i]);
        }
      }
    }
  }
}

template <class Real>
void pack_rows(const PackRows<Real>& p) {
  constexpr int lanes = kLanes<Real>;
  constexpr int64_t width = kColumnVectors * lanes;
  for (int64_t panel = p.panel_begin; panel < p.panel_end; ++panel) {
    Real* out = p.panels + panel * p.panel_stride;
    for (int64_t k = 0; k < p.K; ++k) {
      for (int64_t j = 0; j < width; j += lanes) {
        const int64_t column = panel * width + j;
        const bool inside = p.rows[k] && column < p.columns;
        store(out + k * width + j, inside ? load_first(p.rows[k] + column, p.columns - column) : Vec<Real>{});
      }
    }
  }
}
