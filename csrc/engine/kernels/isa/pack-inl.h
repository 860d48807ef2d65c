// Weights and rows into panels (see ../kernels.h), once a call.

// Calls visit(number), a number of the type that the caller's matrices have.
template <class Real, class Visit>
FASTRNN_INLINE void with_source(Source source, Visit visit) {
  if constexpr (sizeof(Real) == sizeof(float)) {
    if (source == Source::kBfloat16) return visit(UpperHalf{});
  }
  visit(Real{});
}

// A register holds two halves of a row in each lane, which shuffles move together.
template <class Real, class From>
constexpr int kTogether = sizeof(Real) / sizeof(From);
template <class Real, class From>
constexpr int kBlockColumns = kLanes<Real> * kTogether<Real, From>;

// Rows of w lie too far apart for the processor to guess that the next block follows, so it is told
// so many blocks before.
constexpr int kBlocksAhead = 4;

// The first n elements of a block's row, and zeros
template <class Real, class From>
FASTRNN_INLINE Vec<Real> load_elements(const From* row, int64_t n) {
  if constexpr (kTogether<Real, From> == 1) {
    return load_first(row, n);
  } else {
    Vec<Real> v = {};
    __builtin_memcpy(&v, row, n < kBlockColumns<Real, From> ? n * sizeof(From) : sizeof v);
    return v;
  }
}

// The block of w with rows w .. w + rows and columns k .. k + columns, transposed; zero beyond the
// matrix.
template <class Real, bool kWhole, class From>
FASTRNN_INLINE void load_transposed(const From* w, int64_t K, int64_t rows, int64_t columns,
                                    Vec<Real> (&block)[kLanes<Real>]) {
#pragma GCC unroll 16
  for (int i = 0; i < kLanes<Real>; ++i) {
    if constexpr (kWhole) {
      __builtin_prefetch(w + i * K + kBlocksAhead * kBlockColumns<Real, From>);
      __builtin_memcpy(&block[i], w + i * K, sizeof block[i]);
    } else {
      block[i] = i < rows ? load_elements<Real>(w + i * K, columns) : Vec<Real>{};
    }
  }
  transpose<Real>(block);
}

// The k-th column of a block, in numbers of the call
template <class From, class Real>
FASTRNN_INLINE Vec<Real> column_of(const Vec<Real> (&block)[kLanes<Real>], int k) {
  if constexpr (kTogether<Real, From> == 1) {
    return block[k];
  } else {
    const Ints both = (Ints)block[k / 2];
    return (Vec<Real>)(k % 2 ? both & ~0xffff : both << 16);
  }
}

// Such a block to `out`, whose rows are `width` apart; columns beyond the matrix have no row there.
template <class Real, bool kWhole, class From>
FASTRNN_INLINE void transpose_block(const From* w, int64_t K, int64_t rows, int64_t columns,
                                    Real* out, int64_t width) {
  Vec<Real> block[kLanes<Real>];
  load_transposed<Real, kWhole>(w, K, rows, columns, block);
#pragma GCC unroll 32
  for (int i = 0; i < kBlockColumns<Real, From>; ++i) {
    if (kWhole || i < columns) store(out + i * width, column_of<From, Real>(block, i));
  }
}

template <class From, class Real>
FASTRNN_NOINLINE void pack_gates_of(const PackGates<Real>& p) {
  constexpr int lanes = kLanes<Real>, columns = kBlockColumns<Real, From>;
  const From* matrix = static_cast<const From*>(p.w);
  const int64_t width = p.gates * p.unit_width;
  for (int64_t panel = p.panel_begin; panel < p.panel_end; ++panel) {
    for (int g = 0; g < p.gates; ++g) {
      for (int64_t j = 0; j < p.unit_width; j += lanes) {
        const int64_t unit = panel * p.unit_width + j;
        const int64_t rows = p.units - unit;
        const From* w = matrix + (p.gate[g] * p.units + unit) * p.K;
        Real* out = p.panels + (panel - p.panel_begin) * p.K * width + g * p.unit_width + j;
        int64_t k = 0;
        if (rows >= lanes) {
          for (; k + columns <= p.K; k += columns)
            transpose_block<Real, true>(w + k, p.K, lanes, columns, out + k * width, width);
        }
        for (; k < p.K; k += columns)
          transpose_block<Real, false>(w + k, p.K, rows, p.K - k, out + k * width, width);
      }
    }
  }
}

template <class Real>
void pack_gates(const PackGates<Real>& p) {
  with_source<Real>(p.source, [&](auto number) { pack_gates_of<decltype(number)>(p); });
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
