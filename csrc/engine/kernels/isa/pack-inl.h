// Weights and rows into panels (see ../kernels.h), once a call.

// Rows of w lie too far apart for the processor to guess that the next block follows, so it is told
// so many blocks before.
constexpr int kBlocksAhead = 4;

// The block of w with rows w .. w + rows and columns k .. k + columns, transposed; zero beyond the
// matrix.
template <class Real, bool kWhole>
FASTRNN_INLINE void load_transposed(const Real* w, int64_t K, int64_t rows, int64_t columns,
                                    Vec<Real> (&block)[kLanes<Real>]) {
#pragma GCC unroll 16
  for (int i = 0; i < kLanes<Real>; ++i) {
    if constexpr (kWhole) {
      __builtin_prefetch(w + i * K + kBlocksAhead * kLanes<Real>);
      block[i] = load(w + i * K);
    } else {
      block[i] = i < rows ? load_first(w + i * K, columns) : Vec<Real>{};
    }
  }
  transpose<Real>(block);
}

// The same to `out`, whose rows are `width` apart; columns beyond the matrix have no row there.
template <class Real, bool kWhole>
FASTRNN_INLINE void transpose_block(const Real* w, int64_t K, int64_t rows, int64_t columns,
                                    Real* out, int64_t width) {
  Vec<Real> block[kLanes<Real>];
  load_transposed<Real, kWhole>(w, K, rows, columns, block);
#pragma GCC unroll 16
  for (int i = 0; i < kLanes<Real>; ++i) {
    if (kWhole || i < columns) store(out + i * width, block[i]);
  }
}

template <class Real>
void pack_gates(const PackGates<Real>& p) {
  constexpr int lanes = kLanes<Real>;
  const int64_t width = p.gates * p.unit_width;
  for (int64_t panel = p.panel_begin; panel < p.panel_end; ++panel) {
    for (int g = 0; g < p.gates; ++g) {
      for (int64_t j = 0; j < p.unit_width; j += lanes) {
        const int64_t unit = panel * p.unit_width + j;
        const int64_t rows = p.units - unit;
        const Real* w = p.w + (p.gate[g] * p.units + unit) * p.K;
        Real* out = p.panels + (panel - p.panel_begin) * p.K * width + g * p.unit_width + j;
        int64_t k = 0;
        if (rows >= lanes) {
          for (; k + lanes <= p.K; k += lanes)
            transpose_block<Real, true>(w + k, p.K, lanes, lanes, out + k * width, width);
        }
        for (; k < p.K; k += lanes)
          transpose_block<Real, false>(w + k, p.K, rows, p.K - k, out + k * width, width);
      }
    }
  }
}

// One row of a column panel
template <class Real>
FASTRNN_INLINE void copy_columns(const Real* from, int64_t columns, Real* to) {
  constexpr int lanes = kLanes<Real>;
  for (int64_t j = 0; j < kColumnVectors * lanes; j += lanes) {
    store(to + j, j < columns ? load_first(from + j, columns - j) : Vec<Real>{});
  }
}

template <class Real>
void pack_rows(const PackRows<Real>& p) {
  constexpr int64_t width = kColumnVectors * kLanes<Real>;
  for (int64_t panel = p.panel_begin; panel < p.panel_end; ++panel) {
    Real* out = p.panels + (panel - p.panel_begin) * p.panel_stride;
    const int64_t first = panel * width;
    if (first + width <= p.columns) {
      for (int64_t k = 0; k < p.K; ++k) copy_columns(p.rows[k] + first, width, out + k * width);
    } else {
      for (int64_t k = 0; k < p.K; ++k)
        copy_columns(p.rows[k] + first, p.columns - first, out + k * width);
    }
  }
}
