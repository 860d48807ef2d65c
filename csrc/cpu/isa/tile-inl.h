// The micro-kernel: a tile of M rows by N vectors held in registers while k runs. All arithmetic of
// every product on packed weights, forward and backward, happens here.

// Rows of a tile that is N vectors wide. The M * N accumulators should be many (a weight load
// serves M rows, and two FMA units of 4 cycles latency want 8 chains in flight) and leave room for
// the weights and one broadcast.
constexpr int max_rows(int vectors) { return (FASTRNN_VECTOR_REGISTERS == 32 ? 24 : 12) / vectors; }

// Cut `rows` rows into as few tiles as fit, of heights that differ by one at the most.
struct Tiling {
  int64_t rows, tiles;
  int64_t begin(int64_t tile) const { return tile * rows / tiles; }
};

FASTRNN_INLINE Tiling tile_rows(int64_t rows, int tallest) {
  return {rows, (rows + tallest - 1) / tallest};
}

// Where the left-hand operand lies: element (m, k) is a[m][offset(k)], k in runs (see ../kernels.h)
// of elements that are `stride` apart.
struct Steps {
  Runs k;
  int64_t stride;
};

// Elements of a cache line
template <class Real>
constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(Real));

// The hardware reads ahead within a run, but does not know where the next one begins.
template <class Real, int M>
FASTRNN_INLINE void fetch_run(const Real* const (&row)[M], int64_t offset, int64_t run) {
  for (int64_t k = 0; k < run; k += kLine<Real>) {
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) __builtin_prefetch(row[m] + offset + k);
  }
}

// tile[p][m][n] += sum over k of a[m][k] * panel[p][k][n], for P panels at once; panel: [k][W
// vectors], of which N count, `panel_stride` apart. Rows of the tile are `tile_stride` apart, its
// panels M of them.
template <class Real, int M, int N, int W = N, int P = 1>
FASTRNN_INLINE void multiply_tile(const Real* const* a, const Steps& steps, const Real* panel,
                                  int64_t panel_stride, Real* tile, int64_t tile_stride) {
  constexpr int lanes = kLanes<Real>;
  const Real* row[M];
  Vec<Real> sum[P][M][N];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) row[m] = a[m];
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 16
      for (int n = 0; n < N; ++n) sum[p][m][n] = load(tile + (p * M + m) * tile_stride + n * lanes);
    }
  }
  const Runs& all = steps.k;
  const int64_t runs = all.runs + (all.tail > 0);
  int64_t at = 0;
  for (int64_t r = 0; r < runs; ++r) {
    const int64_t length = r < all.runs ? all.run : all.tail;
    const int64_t next = r + 1 < all.runs ? (r + 1) * all.jump : all.tail_at;
    if (r + 1 < runs) fetch_run<Real, M>(row, next, all.run);
    for (int64_t k = 0; k < length; ++k) {
#pragma GCC unroll 16
      for (int p = 0; p < P; ++p) {
        Vec<Real> w[N];
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) w[n] = load(panel + p * panel_stride + n * lanes);
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) {
          const Vec<Real> x = broadcast(row[m][at]);
#pragma GCC unroll 16
          for (int n = 0; n < N; ++n) sum[p][m][n] += x * w[n];
        }
      }
      panel += W * lanes;
      at += steps.stride;
    }
    at = next;
  }
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 16
      for (int n = 0; n < N; ++n) store(tile + (p * M + m) * tile_stride + n * lanes, sum[p][m][n]);
    }
  }
}

// The same for 1 to M rows and one panel.
template <class Real, int N, int W = N, int M = max_rows(W)>
void multiply_rows(int64_t rows, const Real* const* a, const Steps& steps, const Real* panel,
                   Real* tile, int64_t tile_stride) {
  if constexpr (M > 0) {
    if (rows == M) return multiply_tile<Real, M, N, W>(a, steps, panel, 0, tile, tile_stride);
    return multiply_rows<Real, N, W, M - 1>(rows, a, steps, panel, tile, tile_stride);
  }
}

// The same for the first 1 to N of W vectors: the last panel of an operand may be partly filled.
template <class Real, int W, int N = W>
FASTRNN_INLINE void multiply_columns(int64_t columns, int64_t rows, const Real* const* a,
                                     const Steps& steps, const Real* panel, Real* tile,
                                     int64_t tile_stride) {
  if constexpr (N > 1) {
    if (columns <= (N - 1) * kLanes<Real>)
      return multiply_columns<Real, W, N - 1>(columns, rows, a, steps, panel, tile, tile_stride);
  }
  multiply_rows<Real, N, W>(rows, a, steps, panel, tile, tile_stride);
}
