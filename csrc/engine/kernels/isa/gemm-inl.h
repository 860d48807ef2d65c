// Products of rows with packed panels, on the micro-kernel of tile-inl.h.

// Where the sums of a product go: to c alone, or to what is there or has to be there first
template <class Real>
FASTRNN_INLINE void store_sums(Real* c, int64_t columns, const Real* sums, int64_t width,
                               const Real* before) {
  for (int64_t j = 0; j < width && j < columns; j += kLanes<Real>) {
    const Vec<Real> sum = load(sums + j);
    const int64_t n = columns - j;
    store_first(c + j, before ? load_first(before + j, n) + sum : sum, n);
  }
}

template <class F, int N>
void product(const Product<NumberOf<F>>& p) {
  typedef NumberOf<F> Real;
  constexpr int64_t width = N * kLanes<Real>;
  const Pieces pieces(p.k);
  const int64_t length = p.k.run * p.k.runs + p.k.tail;
  const Tiling tiling = tile_rows(p.rows, max_rows(N));
  alignas(64) Real sums[kRowsOfProduct * width];
  const auto row = [&](int64_t r) { return p.a[r]; };
  prepare_rows<F>(p.rows, length, p.operands, row);
  const Lefts<F> lefts(p.operands, length);
  typename TilesOf<F>::Type tiles;

  for (int64_t panel = p.panel_begin; panel < p.panel_end; ++panel) {
    const void* w = at_byte(p.panels, (panel - p.panel_begin) * panel_bytes<F>(length, width));
    const int64_t columns = p.columns - panel * width;
    const Real* init = p.init ? p.init + panel * p.init_panel : nullptr;
    for (int64_t t = 0; t < tiling.tiles; t += kTilesOfProduct<N>) {
      const int64_t end = end_of_block(tiling, t, kTilesOfProduct<N>);
      const int64_t first = tiling.begin(t), rows = tiling.begin(end) - first;
      if constexpr (kRoundsRows<F>) {
        const LeftOf<F>* a[kRowsOfProduct];
        float scales[kRowsOfProduct];
        lefts.list(first, rows, 0, row, a, scales);
        multiply_block<F, N>(columns, tiling, t, end, a, pieces, 1, w, sums, width, tiles, scales);
      } else {
        multiply_block<F, N>(columns, tiling, t, end, p.a + first, pieces, 1, w, sums, width,
                             tiles);
      }
      for (int64_t i = 0; i < rows; ++i) {
        Real* c = p.c[first + i] + p.c_offset + panel * p.c_panel;
        store_sums(c, columns, sums + i * width, width, p.accumulate ? c : init);
      }
    }
  }
}

// tile = a * b, or with `add` that is added to it, for a piece of k, M rows and N vectors of b's
// columns from `first` on, the last as far as there are columns
template <class Real, int N, bool kWhole, int M>
FASTRNN_INLINE void multiply_in_place(const InPlaceProduct<Real>& p, const Pieces::Piece& piece,
                                      const Real* const* a, int64_t first, bool add, Real* tile) {
  constexpr int lanes = kLanes<Real>;
  const int64_t last = p.columns - first - (N - 1) * lanes;
  Vec<Real> sum[1][M][N] = {};
  const Real* const* row = p.b + piece.begin;
  for (int64_t r = 0; r <= piece.k.runs; ++r) {
    const int64_t begin = piece.a + (r < piece.k.runs ? r * piece.k.jump : piece.k.tail_at);
    const int64_t end = begin + (r < piece.k.runs ? piece.k.run : piece.k.tail);
    for (int64_t k = begin; k < end; ++k, ++row) {
      const Real* b = *row + first;
      Vec<Real> w[N];
#pragma GCC unroll 16
      for (int n = 0; n < N; ++n)
        w[n] = kWhole || n + 1 < N ? load(b + n * lanes) : load_first(b + n * lanes, last);
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) {
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) sum[0][m][n] += broadcast(a[m][k]) * w[n];
      }
    }
  }
  store_tile(sum, add, tile, kColumnVectors * lanes);
}

template <class Real, int N, bool kWhole, int M = max_rows(kColumnVectors)>
FASTRNN_INLINE void multiply_rows_in_place(const InPlaceProduct<Real>& p, const Pieces& pieces,
                                           const Real* const* a, int64_t m, int64_t first,
                                           Real* tile) {
  if constexpr (M > 0) {
    if (m < M) return multiply_rows_in_place<Real, N, kWhole, M - 1>(p, pieces, a, m, first, tile);
    for (int64_t i = 0; i < pieces.count; ++i)
      multiply_in_place<Real, N, kWhole, M>(p, pieces[i], a, first, i > 0, tile);
  }
}

// The same for m rows and as many vectors as a panel has
template <class Real, int N = kColumnVectors>
FASTRNN_INLINE void multiply_panel_in_place(const InPlaceProduct<Real>& p, const Pieces& pieces,
                                            const Real* const* a, int64_t m, int64_t first,
                                            Real* tile) {
  const int64_t columns = p.columns - first;
  if constexpr (N > 1) {
    if (columns <= (N - 1) * kLanes<Real>)
      return multiply_panel_in_place<Real, N - 1>(p, pieces, a, m, first, tile);
  }
  if (columns >= N * kLanes<Real>) {
    multiply_rows_in_place<Real, N, true>(p, pieces, a, m, first, tile);
  } else {
    multiply_rows_in_place<Real, N, false>(p, pieces, a, m, first, tile);
  }
}

template <class Real>
void product_in_place(const InPlaceProduct<Real>& p) {
  constexpr int64_t width = kColumnVectors * kLanes<Real>;
  constexpr int tallest = max_rows(kColumnVectors);
  const Pieces pieces(p.k);
  const Tiling tiling = tile_rows(p.rows, tallest);
  alignas(64) Real tile[tallest * width];
  for (int64_t panel = p.panel_begin; panel < p.panel_end; ++panel) {
    const int64_t first = panel * width, columns = p.columns - first;
    for (int64_t t = 0; t < tiling.tiles; ++t) {
      const int64_t row = tiling.begin(t);
      const int64_t m = tiling.begin(t + 1) - row;
      multiply_panel_in_place(p, pieces, p.a + row, m, first, tile);
      for (int64_t i = 0; i < m; ++i) {
        Real* c = p.c[row + i] + first;
        store_sums<Real>(c, columns, tile + i * width, width, p.accumulate ? c : nullptr);
      }
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
      Real* c = p.c[m] + panel * width;
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
  const Tiling tiling = tile_rows(p.rows, max_rows(N));
  const Pieces pieces(Runs{p.K});
  alignas(64) Real sums[kRowsOfProduct * width];
  typename TilesOf<Real>::Type tiles;

  for (int64_t panel = p.panel_begin; panel < p.panel_end; ++panel) {
    const int64_t columns = p.columns - panel * width;
    const Real* w = p.panels + (panel - p.panel_begin) * p.panel_stride;
    for (int64_t t = 0; t < tiling.tiles; t += kTilesOfProduct<N>) {
      const int64_t end = end_of_block(tiling, t, kTilesOfProduct<N>);
      const int64_t first = tiling.begin(t), rows = tiling.begin(end) - first;
      const Real* a[kRowsOfProduct];
      for (int64_t i = 0; i < rows; ++i) {
        a[i] = p.a + first + i;
        const Real* c = p.c[first + i] + panel * width;
        for (int64_t j = 0; j < width && j < columns; j += kLine<Real>)
          __builtin_prefetch(c + j, 1);
      }
      multiply_block<Real, N>(columns, tiling, t, end, a, pieces, p.a_stride, w, sums, width,
                              tiles);
      for (int64_t i = 0; i < rows; ++i) {
        Real* c = p.c[first + i] + panel * width;
        store_sums<Real>(c, columns, sums + i * width, width, p.accumulate ? c : nullptr);
      }
    }
  }
}

// Rows are added up in pieces of pieces: rounding errors stay small where there are many.
constexpr int64_t kSumPiece = 16;

template <class Real>
FASTRNN_INLINE Vec<Real> sum_piece(const SumRows<Real>& p, int64_t m, int64_t begin, int64_t end) {
  const int64_t valid = p.rows - m;
  Vec<Real> sum = {};
  for (int64_t k = begin; k < end && k < p.K; ++k)
    sum += load_first(p.a + k * p.a_stride + m, valid);
  return sum;
}

template <class Real>
void sum_rows(const SumRows<Real>& p) {
  constexpr int64_t kWhole = kSumPiece * kSumPiece;
  for (int64_t m = 0; m < p.rows; m += kLanes<Real>) {
    Vec<Real> sum = {};
    for (int64_t begin = 0; begin < p.K; begin += kWhole) {
      Vec<Real> whole = {};
      for (int64_t k = begin; k < begin + kWhole && k < p.K; k += kSumPiece)
        whole += sum_piece(p, m, k, k + kSumPiece);
      sum += whole;
    }
    const int64_t valid = p.rows - m;
    store_first(p.c + m, p.accumulate ? load_first(p.c + m, valid) + sum : sum, valid);
  }
}

// The sums grow in the place of the first row, which is written last.
template <class Real>
void centre(const Centre<Real>& p) {
  const SumRows<Real> all = {p.from, p.stride, p.columns, p.rows, nullptr, false};
  for (int64_t begin = 0; begin < p.rows; begin += kSumPiece) {
    const bool last = begin + kSumPiece >= p.rows;
    for (int64_t n = 0; n < p.columns; n += kLanes<Real>) {
      const int64_t valid = p.columns - n;
      Vec<Real> sum = sum_piece(all, n, begin, begin + kSumPiece);
      if (begin > 0) sum += load_first(p.to + n, valid);
      store_first(p.to + n, last ? sum / static_cast<Real>(p.rows) : sum, valid);
    }
  }
  for (int64_t m = p.rows - 1; m >= 0; --m) {
    for (int64_t n = 0; n < p.columns; n += kLanes<Real>) {
      const int64_t at = m * p.stride + n, valid = p.columns - n;
      store_first(p.to + at, load_first(p.from + at, valid) - load_first(p.to + n, valid), valid);
    }
  }
}

// The compiler makes vectors of it.
template <class Real>
void mask(const Mask<Real>& p) {
  const int16_t* const numbers = p.numbers;
  Real* const to = p.to;
  const int16_t limit = p.limit;
  const Real value = p.value;
  for (int64_t i = 0; i < p.count; ++i) to[i] = numbers[i] >= limit ? value : Real{0};
}
