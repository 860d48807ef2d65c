// The micro-kernel: a tile of M rows by N vectors held in registers while k runs. Products with
// packed panels are computed here, forward and backward. Weights that are read where they lie, and
// weight gradients of a few rows, have loops of their own (gemm-inl.h, step-inl.h).

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

// The sum of a product over k is cut into pieces of about this length. Each is summed from zero,
// then they are added in their order: rounding errors stay small where K is large, and a piece of a
// panel stays in the first-level cache while all tiles of rows pass over it. Where the cuts fall
// depends on k alone.
constexpr int64_t kPiece = 128;
constexpr int64_t kPieceUnit = 16;

class Pieces {
 public:
  explicit Pieces(const Runs& k) : k(k) {
    single_ = k.runs == 1 && k.tail == 0;
    const int64_t unit = single_ ? 1 : k.run, units = single_ ? k.run : k.runs;
    const int64_t wanted = (units * unit + kPiece / 2) / kPiece;
    count = wanted > 0 ? wanted : 1;
    each_ = (units + count - 1) / count;
    if (single_) each_ = round_up(each_, kPieceUnit);
    count = each_ > 0 ? (units + each_ - 1) / each_ : 1;
  }

  // k of the i-th piece; where it begins, in a row of the left-hand operand and in k
  struct Piece {
    Runs k;
    int64_t a, begin;
  };
  Piece operator[](int64_t i) const {
    const int64_t first = i * each_, units = single_ ? k.run : k.runs;
    const int64_t left = units - first, own = left < each_ ? left : each_;
    if (single_) return {Runs{own}, first, first};
    Piece piece = {Runs{k.run, own, k.jump}, first * k.jump, first * k.run};
    if (i + 1 == count) {
      piece.k.tail = k.tail;
      piece.k.tail_at = k.tail_at - piece.a;
    }
    return piece;
  }

  const Runs k;
  int64_t count;

 private:
  bool single_;
  int64_t each_;  // units of a piece: elements of a single run, or whole runs
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

// tile[p][m][n] = sum over k of a[m][k] * panel[p][k][n], or with `add` that is added to it, for P
// panels at once; panel: [k][W vectors], of which N count, `panel_stride` apart. Rows of the tile
// are `tile_stride` apart, its panels M of them.
template <class Real, int M, int N, int W = N, int P = 1>
FASTRNN_INLINE void multiply_tile(const Real* const* a, const Steps& steps, const Real* panel,
                                  int64_t panel_stride, bool add, Real* tile, int64_t tile_stride) {
  constexpr int lanes = kLanes<Real>;
  const Real* row[M];
  Vec<Real> sum[P][M][N] = {};
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) row[m] = a[m];
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
  store_tile(sum, add, tile, tile_stride);
}

// The same of a panel in any format, whose rows have a single run of k if that is not the plain
// one; `panel_stride` in bytes.
template <class F, int M, int N, int W = N, int P = 1>
FASTRNN_INLINE void multiply(const LeftOf<F>* const* a, const Steps& steps, const char* panel,
                             int64_t panel_stride, bool add, NumberOf<F>* tile,
                             int64_t tile_stride) {
  if constexpr (FormatOf<F>::kGroup == 1) {
    multiply_tile<F, M, N, W, P>(a, steps, reinterpret_cast<const F*>(panel),
                                 panel_stride / static_cast<int64_t>(sizeof(F)), add, tile,
                                 tile_stride);
  } else {
    multiply_pairs<M, N, W, P>(F{}, a, steps.k.run, panel, panel_stride, add, tile, tile_stride);
  }
}

// The same for 1 to M rows and one panel.
template <class F, int N, int W = N, int M = max_rows(W)>
void multiply_rows(int64_t rows, const LeftOf<F>* const* a, const Steps& steps, const char* panel,
                   bool add, NumberOf<F>* tile, int64_t tile_stride) {
  if constexpr (M > 0) {
    if (rows == M) return multiply<F, M, N, W>(a, steps, panel, 0, add, tile, tile_stride);
    return multiply_rows<F, N, W, M - 1>(rows, a, steps, panel, add, tile, tile_stride);
  }
}

// The same for the first 1 to N of W vectors: the last panel of an operand may be partly filled.
template <class F, int W, int N = W>
FASTRNN_INLINE void multiply_columns(int64_t columns, int64_t rows, const LeftOf<F>* const* a,
                                     const Steps& steps, const char* panel, bool add,
                                     NumberOf<F>* tile, int64_t tile_stride) {
  if constexpr (N > 1) {
    if (columns <= (N - 1) * kLanes<NumberOf<F>>)
      return multiply_columns<F, W, N - 1>(columns, rows, a, steps, panel, add, tile, tile_stride);
  }
  multiply_rows<F, N, W>(rows, a, steps, panel, add, tile, tile_stride);
}

// Tiles of rows that pass over a piece of a panel before the next one comes; their sums wait in
// memory. Those of a step have the equations behind them, whose numbers have to be near.
constexpr int kTilesAtOnce = 8;

template <int kVectors>
constexpr int kRowsAtOnce = kTilesAtOnce * max_rows(kVectors);

// A product alone takes more: a panel comes from afar once for all of them.
constexpr int kRowsOfProduct = 72;

template <int kVectors>
constexpr int kTilesOfProduct = kRowsOfProduct / max_rows(kVectors);

// Where the tiles end that do so together, `most` of them, with the one that begins at `tile`
FASTRNN_INLINE int64_t end_of_block(const Tiling& tiling, int64_t tile, int64_t most) {
  return tile + most < tiling.tiles ? tile + most : tiling.tiles;
}

// Where the weights of a piece begin in a panel of W vectors
template <class F, int W>
FASTRNN_INLINE const char* piece_of(const void* panel, const Pieces::Piece& piece) {
  constexpr int64_t columns = W * kLanes<NumberOf<F>>;
  return at_byte(panel, columns * (FormatOf<F>::kScaleBytes + piece.begin * FormatOf<F>::kBytes));
}

// sums[row] = the product of row `a` from `offset` on with a piece of a panel, or with `add` that
// is added to it.
template <class F, int W>
FASTRNN_INLINE void multiply_piece(int64_t columns, const Tiling& tiling, int64_t begin,
                                   int64_t end, const LeftOf<F>* const* a, int64_t offset,
                                   const Steps& steps, const char* w, bool add, NumberOf<F>* sums,
                                   int64_t sums_stride) {
  const int64_t first = tiling.begin(begin);
  for (int64_t t = begin; t < end; ++t) {
    const int64_t row = tiling.begin(t) - first, m = tiling.begin(t + 1) - first - row;
    const LeftOf<F>* at[max_rows(W)];
    for (int64_t r = 0; r < m; ++r) at[r] = a[row + r] + offset;
    multiply_columns<F, W>(columns, m, at, steps, w, add, sums + row * sums_stride, sums_stride);
  }
}

// A piece has no more elements than this.
constexpr int64_t kLongestPiece = kPiece + kPiece / 2;

// Rows from which on a piece of bfloat16 is made plain numbers first: tiles of three rows and more
// take all registers, and leave none for that.
constexpr int64_t kRowsToWiden = 5;

// sums[row] = the product of row `a` with a panel, by the pieces of it
template <class F, int W>
FASTRNN_INLINE void multiply_pieces(int64_t columns, const Tiling& tiling, int64_t begin,
                                    int64_t end, const LeftOf<F>* const* a, const Pieces& pieces,
                                    int64_t stride, const void* panel, NumberOf<F>* sums,
                                    int64_t sums_stride) {
  const int64_t rows = tiling.begin(end) - tiling.begin(begin);
  for (int64_t i = 0; i < pieces.count; ++i) {
    const Pieces::Piece piece = pieces[i];
    const Steps steps = {piece.k, stride};
    const char* w = piece_of<F, W>(panel, piece);
    if constexpr (kWidens<F>) {
      if (rows >= kRowsToWiden) {
        alignas(64) float plain[(kLongestPiece + 1) * W * kLanes<float>];
        widen_rows<W>(w, piece.k.run, plain);
        multiply_piece<float, W>(columns, tiling, begin, end, a, piece.a, steps,
                                 reinterpret_cast<const char*>(plain), i > 0, sums, sums_stride);
        continue;
      }
    }
    multiply_piece<F, W>(columns, tiling, begin, end, a, piece.a * stride, steps, w, i > 0, sums,
                         sums_stride);
  }
}

// The same for formats with tiles of the processor's, K elements, and the first columns of a panel
// (tile-formats-inl.h)
template <class F, int W>
void multiply_in_tiles(typename TilesOf<F>::Type& tiles, int64_t columns, int64_t rows,
                       const LeftOf<F>* const* a, int64_t K, const void* panel, NumberOf<F>* sums,
                       int64_t sums_stride);

// The same in whichever way the format has, for the tiles begin .. end of a tiling; rows and sums
// are counted from the first row of these, and so are the scales of rows that were rounded.
template <class F, int W>
FASTRNN_INLINE void multiply_block(int64_t columns, const Tiling& tiling, int64_t begin,
                                   int64_t end, const LeftOf<F>* const* a, const Pieces& pieces,
                                   int64_t stride, const void* panel, NumberOf<F>* sums,
                                   int64_t sums_stride, typename TilesOf<F>::Type& tiles,
                                   const float* scales = nullptr) {
  const int64_t rows = tiling.begin(end) - tiling.begin(begin);
  if constexpr (TilesOf<F>::kAny) {
    multiply_in_tiles<F, W>(tiles, columns, rows, a, pieces.k.run, panel, sums, sums_stride);
  } else {
    multiply_pieces<F, W>(columns, tiling, begin, end, a, pieces, stride, panel, sums, sums_stride);
  }
  if constexpr (kScales<F>) {
    scale_sums<F>(scales, rows, static_cast<const char*>(panel), W * kLanes<float>, columns, sums,
                  sums_stride);
  }
}

// A single row cannot keep the multipliers busy with the chains of one panel, and so takes P panels
// at once, `panel_stride` bytes apart: tile[panel] = a * panel.
template <class F, int N, int P = 2>
FASTRNN_INLINE void multiply_panels(const LeftOf<F>* a, int64_t K, const void* panels,
                                    int64_t panel_stride, NumberOf<F>* tile, int64_t tile_stride,
                                    typename TilesOf<F>::Type& tiles, float scale = 1) {
  constexpr int64_t width = N * kLanes<NumberOf<F>>;
  if constexpr (TilesOf<F>::kAny) {
    for (int p = 0; p < P; ++p) {
      multiply_in_tiles<F, N>(tiles, width, 1, &a, K, at_byte(panels, p * panel_stride),
                              tile + p * tile_stride, tile_stride);
    }
  } else {
    const Pieces pieces(Runs{K});
    for (int64_t i = 0; i < pieces.count; ++i) {
      const Pieces::Piece piece = pieces[i];
      const LeftOf<F>* at[] = {a + piece.a};
      multiply<F, 1, N, N, P>(at, {piece.k, 1}, piece_of<F, N>(panels, piece), panel_stride, i > 0,
                              tile, tile_stride);
    }
  }
  if constexpr (kScales<F>) {
    for (int p = 0; p < P; ++p) {
      scale_sums<F>(&scale, 1, at_byte(panels, p * panel_stride), width, width,
                    tile + p * tile_stride, tile_stride);
    }
  }
}
