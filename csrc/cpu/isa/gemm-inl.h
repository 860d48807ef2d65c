// Products of rows with packed panels, on the micro-kernel of tile-inl.h.

// Columns of c that a tile of `width` touches, vector by vector.
template <class Real>
FASTRNN_INLINE void load_columns(const Real* c, int64_t columns, Real* tile, int64_t width) {
  for (int64_t j = 0; j < width; j += kLanes<Real>) store(tile + j, load_first(c + j, columns - j));
}

template <class Real>
FASTRNN_INLINE void store_columns(Real* c, int64_t columns, const Real* tile, int64_t width) {
  for (int64_t j = 0; j < width && j < columns; j += kLanes<Real>)
    store_first(c + j, load(tile + j), columns - j);
}

template <class Real>
FASTRNN_INLINE void zero_columns(Real* tile, int64_t width) {
  for (int64_t j = 0; j < width; j += kLanes<Real>) store(tile + j, Vec<Real>{});
}

// A panel is read once for every tile of rows; this many bytes of it at a time stay in the
// second-level cache meanwhile. The sums wait in memory between pieces, unrounded, so the chain of
// additions is the same with any piece size.
constexpr int64_t kPanelPieceBytes = 256 * 1024;

// One piece of k goes through all panels before the next one begins: the left-hand operand's share
// of it stays in a cache that is near.
template <class Real, int N>
void product(const Product<Real>& p) {
  constexpr int64_t width = N * kLanes<Real>;
  constexpr int tallest = max_rows(N);
  const bool single = p.k.runs == 1 && p.k.tail == 0;
  const int64_t unit = single ? 1 : p.k.run;  // pieces are whole runs, or any part of a single one
  const int64_t units = single ? p.k.run : p.k.runs;
  const int64_t unit_jump = single ? 1 : p.k.jump;
  const int64_t length = p.k.run * p.k.runs + p.k.tail;
  const int64_t room = kPanelPieceBytes / (width * static_cast<int64_t>(sizeof(Real)) * unit);
  const int64_t piece = room > 0 ? room : 1;
  const Tiling tiling = tile_rows(p.rows, tallest);
  alignas(64) Real tile[tallest * width];

  for (int64_t begin = 0; begin < units; begin += piece) {
    const int64_t count = units - begin < piece ? units - begin : piece;
    Runs k = single ? Runs{count} : Runs{p.k.run, count, p.k.jump};
    if (begin + count == units) {
      k.tail = p.k.tail;
      k.tail_at = p.k.tail_at - begin * unit_jump;
    }
    const bool from_c = p.accumulate || begin > 0;
    for (int64_t panel = p.panel_begin; panel < p.panel_end; ++panel) {
      const int64_t skipped = (panel - p.panel_begin) * length + begin * unit;
      const int64_t columns = p.columns - panel * width;
      const Real* init = p.init ? p.init + panel * p.init_panel : nullptr;
      for (int64_t t = 0; t < tiling.tiles; ++t) {
        const int64_t row = tiling.begin(t);
        const int64_t m = tiling.begin(t + 1) - row;
        const Real* a[tallest];
        for (int64_t i = 0; i < m; ++i) {
          a[i] = p.a[row + i] + begin * unit_jump;
          if (from_c) {
            load_columns(p.c[row + i] + panel * p.c_panel, columns, tile + i * width, width);
          } else if (init) {
            load_columns(init, width, tile + i * width, width);
          } else {
            zero_columns(tile + i * width, width);
          }
        }
        multiply_columns<Real, N>(columns, m, a, {k, 1}, p.panels + skipped * width, tile, width);
        for (int64_t i = 0; i < m; ++i)
          store_columns(p.c[row + i] + panel * p.c_panel, columns, tile + i * width, width);
      }
    }
  }
}

// tile += a * b for M rows and N vectors of b's columns from `first` on, the last as far as there
// are columns
template <class Real, int N, bool kWhole, int M>
FASTRNN_INLINE void multiply_in_place(const InPlaceProduct<Real>& p, const Real* const* a,
                                      int64_t first, Real* tile) {
  constexpr int lanes = kLanes<Real>;
  constexpr int64_t width = kColumnVectors * lanes;
  const int64_t last = p.columns - first - (N - 1) * lanes;
  Vec<Real> sum[M][N];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) sum[m][n] = load(tile + m * width + n * lanes);
  }
  const Real* const* row = p.b;
  for (int64_t r = 0; r <= p.k.runs; ++r) {
    const int64_t begin = r < p.k.runs ? r * p.k.jump : p.k.tail_at;
    const int64_t end = begin + (r < p.k.runs ? p.k.run : p.k.tail);
    for (int64_t k = begin; k < end; ++k, ++row) {
      const Real* b = *row + first;
      Vec<Real> w[N];
#pragma GCC unroll 16
      for (int n = 0; n < N; ++n)
        w[n] = kWhole || n + 1 < N ? load(b + n * lanes) : load_first(b + n * lanes, last);
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) {
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) sum[m][n] += broadcast(a[m][k]) * w[n];
      }
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) store(tile + m * width + n * lanes, sum[m][n]);
  }
}

template <class Real, int N, bool kWhole, int M = max_rows(kColumnVectors)>
FASTRNN_INLINE void multiply_rows_in_place(const InPlaceProduct<Real>& p, const Real* const* a,
                                           int64_t m, int64_t first, Real* tile) {
  if constexpr (M > 0) {
    if (m == M) return multiply_in_place<Real, N, kWhole, M>(p, a, first, tile);
    return multiply_rows_in_place<Real, N, kWhole, M - 1>(p, a, m, first, tile);
  }
}

// The same for m rows and as many vectors as a panel has
template <class Real, int N = kColumnVectors>
FASTRNN_INLINE void multiply_panel_in_place(const InPlaceProduct<Real>& p, const Real* const* a,
                                            int64_t m, int64_t first, Real* tile) {
  const int64_t columns = p.columns - first;
  if constexpr (N > 1) {
    if (columns <= (N - 1) * kLanes<Real>)
      return multiply_panel_in_place<Real, N - 1>(p, a, m, first, tile);
  }
  if (columns >= N * kLanes<Real>) {
    multiply_rows_in_place<Real, N, true>(p, a, m, first, tile);
  } else {
    multiply_rows_in_place<Real, N, false>(p, a, m, first, tile);
  }
}

template <class Real>
void product_in_place(const InPlaceProduct<Real>& p) {
  constexpr int64_t width = kColumnVectors * kLanes<Real>;
  constexpr int tallest = max_rows(kColumnVectors);
  const Tiling tiling = tile_rows(p.rows, tallest);
  alignas(64) Real tile[tallest * width];
  for (int64_t panel = p.panel_begin; panel < p.panel_end; ++panel) {
    const int64_t first = panel * width, columns = p.columns - first;
    for (int64_t t = 0; t < tiling.tiles; ++t) {
      const int64_t row = tiling.begin(t);
      const int64_t m = tiling.begin(t + 1) - row;
      for (int64_t i = 0; i < m; ++i) {
        if (p.accumulate) {
          load_columns(p.c[row + i] + first, columns, tile + i * width, width);
        } else {
          zero_columns(tile + i * width, width);
        }
      }
      multiply_panel_in_place(p, p.a + row, m, first, tile);
      for (int64_t i = 0; i < m; ++i)
        store_columns(p.c[row + i] + first, columns, tile + i * width, width);
    }
  }
}

// The first n lanes of a sum that belongs to what `to` holds already, or takes its place
template <class Real>
FASTRNN_INLINE void add_or_store(Vec<Real> sum, bool add, int64_t n, Real* to) {
  store_first(to, add ? load_first(to, n) + sum : sum, n);
}

// A product of so few steps that a tile would only be in the way
constexpr int kThin = 4;

template <class Real, int K>
void outer_thin(const Outer<Real>& p) {
  constexpr int N = kColumnVectors, lanes = kLanes<Real>;
  constexpr int64_t width = N * lanes;
  for (int64_t m = 0; m < p.rows; ++m) {
    Vec<Real> a[K];
#pragma GCC unroll 16
    for (int k = 0; k < K; ++k) a[k] = broadcast(p.a[k * p.a_stride + m]);
    for (int64_t panel = p.panel_begin; panel < p.panel_end; ++panel) {
      const Real* b = p.panels + (panel - p.panel_begin) * p.panel_stride;
      Real* c = p.c + m * p.c_stride + panel * width;
      Vec<Real> sum[N] = {};
#pragma GCC unroll 16
      for (int k = 0; k < K; ++k) {
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) sum[n] += a[k] * load(b + k * width + n * lanes);
      }
      const int64_t columns = p.columns - panel * width;
#pragma GCC unroll 16
      for (int n = 0; n < N; ++n) {
        if (n * lanes < columns)
          add_or_store<Real>(sum[n], p.accumulate, columns - n * lanes, c + n * lanes);
      }
    }
  }
}

// The same for 1 to K steps
template <class Real, int K = kThin>
void outer_few(const Outer<Real>& p) {
  if constexpr (K > 1) {
    if (p.K < K) return outer_few<Real, K - 1>(p);
  }
  outer_thin<Real, K>(p);
}

template <class Real>
void outer(const Outer<Real>& p) {
  if (p.K > 0 && p.K <= kThin) return outer_few(p);
  constexpr int N = kColumnVectors;
  constexpr int64_t width = N * kLanes<Real>;
  constexpr int tallest = max_rows(N);
  const Tiling tiling = tile_rows(p.rows, tallest);
  const Steps steps = {{p.K}, p.a_stride};
  alignas(64) Real tile[tallest * width];

  for (int64_t panel = p.panel_begin; panel < p.panel_end; ++panel) {
    const int64_t columns = p.columns - panel * width;
    for (int64_t t = 0; t < tiling.tiles; ++t) {
      const int64_t row = tiling.begin(t);
      const int64_t m = tiling.begin(t + 1) - row;
      const Real* a[tallest];
      for (int64_t i = 0; i < m; ++i) {
        a[i] = p.a + row + i;
        zero_columns(tile + i * width, width);
        const Real* c = p.c + (row + i) * p.c_stride + panel * width;
        for (int64_t j = 0; j < width && j < columns; j += kLine<Real>)
          __builtin_prefetch(c + j, 1);
      }
      multiply_columns<Real, N>(columns, m, a, steps,
                                p.panels + (panel - p.panel_begin) * p.panel_stride, tile, width);
      for (int64_t i = 0; i < m; ++i) {
        Real* c = p.c + (row + i) * p.c_stride + panel * width;
        for (int64_t j = 0; j < width && j < columns; j += kLanes<Real>)
          add_or_store<Real>(load(tile + i * width + j), p.accumulate, columns - j, c + j);
      }
    }
  }
}

template <class Real>
void sum_rows(const SumRows<Real>& p) {
  for (int64_t m = 0; m < p.rows; m += kLanes<Real>) {
    const int64_t valid = p.rows - m;
    Vec<Real> sum = {};
    for (int64_t k = 0; k < p.K; ++k) {
      const Vec<Real> a = load_first(p.a + k * p.a_stride + m, valid);
      sum += p.factors ? a * load_first(p.factors[k] + p.first + m, valid) : a;
    }
    store_first(p.c + m, p.accumulate ? load_first(p.c + m, valid) + sum : sum, valid);
  }
}
