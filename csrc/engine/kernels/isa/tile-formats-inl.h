// The formats of dot-formats-inl.h, in the same panels, with their products in tiles
// (tile-registers-inl.h): a row of a tile of weights is what one vector of a panel holds, so that
// 16 of these are a tile, as they lie.

// Results are those of Int8, bit for bit.
struct Int8Tiles : Int8Dots {};

// Sums are float32, in the order that PlainTiles::add_halves says, over 32 k at a time.
struct Bfloat16Tiles : Bfloat16Dots {};

template <>
struct FormatOf<Int8Tiles> : FormatOf<Int8Dots> {};
template <>
struct FormatOf<Bfloat16Tiles> : FormatOf<Bfloat16Dots> {};

// The tiles of a call, which cost as much to shape as a small product: all products with as many
// rows share a shape.
class CallTiles {
 public:
  ~CallTiles() {
    if (rows_ > 0) own.release();
  }
  // For `rows` rows that weights meet
  void shape(int64_t rows) {
    if (rows == rows_) return;
    TileShapes shapes;
    for (int t = 0; t < kTiles; ++t) {
      shapes.rows[t] = static_cast<uint8_t>(t < kWeights ? rows : kTileRows);
      shapes.row_bytes[t] =
          static_cast<uint16_t>(t < kRows || t >= kWeights ? FASTRNN_VECTOR_BYTES : kTileRowBytes);
    }
    own.shape(shapes);
    rows_ = rows;
  }

  // Which tiles hold sums, from 0 on, two of rows, and two of weights
  static constexpr int kRows = 4, kWeights = 6;
  Tiles own;

 private:
  int64_t rows_ = 0;
};

template <>
struct TilesOf<Int8Tiles> {
  typedef CallTiles Type;
  static constexpr bool kAny = true;
};
template <>
struct TilesOf<Bfloat16Tiles> {
  typedef CallTiles Type;
  static constexpr bool kAny = true;
};

// Bytes of rows that weights meet, or weights: from one to the next, and `rest` behind those that
// fill tiles, zero beyond the last k, or null
struct TileOperand {
  const char* whole;
  int64_t stride;
  const char* rest;
  int64_t rest_stride;
};

struct TileProduct {
  TileOperand rows, weights;
  int64_t whole;  // tiles of k
  char* sums;
  int64_t sums_stride;
};

// The first elements of what two tiles hold, and bytes from row to row
struct TilePair {
  const char *first, *second;
  int64_t stride;
};

template <class F, int C, int A, int B>
FASTRNN_INLINE void add_tile(Tiles& tiles) {
  if constexpr (FormatOf<F>::kBytes == 1) {
    tiles.template add_bytes<C, A, B>();
  } else {
    tiles.template add_halves<C, A, B>();
  }
}

// Adds one tile of k of M tiles of rows and N of weights to M * N sums.
template <class F, int M, int N>
FASTRNN_INLINE void add_tiles(Tiles& tiles, const TilePair& rows, const TilePair& weights) {
  constexpr int a = CallTiles::kRows, b = CallTiles::kWeights;
  tiles.template load<a>(rows.first, rows.stride);
  tiles.template load<b>(weights.first, weights.stride);
  add_tile<F, 0, a, b>(tiles);
  if constexpr (N > 1) {
    tiles.template load<b + 1>(weights.second, weights.stride);
    add_tile<F, 1, a, b + 1>(tiles);
  }
  if constexpr (M > 1) {
    tiles.template load<a + 1>(rows.second, rows.stride);
    add_tile<F, 2, a + 1, b>(tiles);
    if constexpr (N > 1) add_tile<F, 3, a + 1, b + 1>(tiles);
  }
}

template <int M, int N>
FASTRNN_INLINE void zero_sums(Tiles& tiles) {
  tiles.template zero<0>();
  if constexpr (N > 1) tiles.template zero<1>();
  if constexpr (M > 1) tiles.template zero<2>();
  if constexpr (M > 1 && N > 1) tiles.template zero<3>();
}

template <int M, int N>
FASTRNN_INLINE void store_sums(const Tiles& tiles, char* first, char* second, int64_t stride) {
  tiles.template store<0>(first, stride);
  if constexpr (N > 1) tiles.template store<1>(first + FASTRNN_VECTOR_BYTES, stride);
  if constexpr (M > 1) tiles.template store<2>(second, stride);
  if constexpr (M > 1 && N > 1) tiles.template store<3>(second + FASTRNN_VECTOR_BYTES, stride);
}

// sums = the product of the tiles of rows from `first` and `second` on, of which M count, with N
// vectors of weights from `byte` of a panel's row on
template <class F, int M, int N>
FASTRNN_INLINE void multiply_tiles(Tiles& tiles, const TileProduct& p, int64_t first,
                                   int64_t second, int64_t byte) {
  const auto rows = [&](const char* from, int64_t stride) {
    return TilePair{from + first * stride, from + second * stride, stride};
  };
  const auto weights = [&](const char* from, int64_t stride) {
    return TilePair{from + byte, from + byte + FASTRNN_VECTOR_BYTES, stride};
  };
  zero_sums<M, N>(tiles);
  for (int64_t i = 0; i < p.whole; ++i) {
    add_tiles<F, M, N>(
        tiles, rows(p.rows.whole + i * kTileRowBytes, p.rows.stride),
        weights(p.weights.whole + i * kTileRows * p.weights.stride, p.weights.stride));
  }
  if (p.rows.rest) {
    add_tiles<F, M, N>(tiles, rows(p.rows.rest, p.rows.rest_stride),
                       weights(p.weights.rest, p.weights.rest_stride));
  }
  store_sums<M, N>(tiles, p.sums + first * p.sums_stride + byte,
                   p.sums + second * p.sums_stride + byte, p.sums_stride);
}

template <class F, int M>
FASTRNN_INLINE void multiply_tiles_of(int64_t vectors, Tiles& tiles, const TileProduct& p,
                                      int64_t first, int64_t second, int64_t byte) {
  if (vectors > 1) return multiply_tiles<F, M, 2>(tiles, p, first, second, byte);
  multiply_tiles<F, M, 1>(tiles, p, first, second, byte);
}

// The last elements of rows, from the k-th on, and zeros behind them. Rows have room to read on.
template <class Left>
FASTRNN_INLINE void copy_rest(const Left* const* a, int64_t rows, int64_t k, int64_t length,
                              Left* to) {
  constexpr int64_t all = kTileRowBytes / static_cast<int64_t>(sizeof(Left));
  for (int64_t r = 0; r < rows; ++r, to += all) {
    for (int64_t i = 0; i < all; ++i) {
      const Left own = a[r][k + i];
      to[i] = i < length ? own : Left{0};
    }
  }
}

// A block of a step has as many rows at the most, or one of a product.
template <int W>
constexpr int64_t kMostRows = kRowsAtOnce<W> > kRowsOfProduct ? kRowsAtOnce<W> : kRowsOfProduct;

// Rows stand equally far apart. Where they do not fill tiles of one height, the last of these
// begins earlier and computes some of them anew.
template <class F, int W>
void multiply_in_tiles(typename TilesOf<F>::Type& tiles, int64_t columns, int64_t rows,
                       const LeftOf<F>* const* a, int64_t K, const void* panel, NumberOf<F>* sums,
                       int64_t sums_stride) {
  constexpr int64_t left = sizeof(LeftOf<F>), tile = kTileRowBytes / left;
  constexpr int64_t width = W * FASTRNN_VECTOR_BYTES, group = FormatOf<F>::kGroup;
  alignas(64) LeftOf<F> rest_of_rows[kMostRows<W> * tile];
  alignas(64) char rest_of_weights[kTileRows * width];
  const int64_t whole = K / tile, rest = K - whole * tile;
  const int64_t stride = rows > 1 ? (a[1] - a[0]) * left : 0;
  const char* weights = at_byte(panel, FormatOf<F>::kScaleBytes * W * kLanes<float>);
  if (rest > 0) {
    const int64_t groups = (rest + group - 1) / group;
    copy_rest(a, rows, whole * tile, rest, rest_of_rows);
    __builtin_memcpy(rest_of_weights, weights + whole * kTileRows * width, groups * width);
    __builtin_memset(rest_of_weights + groups * width, 0, (kTileRows - groups) * width);
  }
  const TileProduct p = {
      {reinterpret_cast<const char*>(a[0]), stride,
       rest > 0 ? reinterpret_cast<const char*>(rest_of_rows) : nullptr, kTileRowBytes},
      {weights, width, rest_of_weights, width},
      whole,
      reinterpret_cast<char*>(sums),
      sums_stride * static_cast<int64_t>(sizeof(float))};
  const int64_t count = (rows + kTileRows - 1) / kTileRows, height = (rows + count - 1) / count;
  tiles.shape(height);
  const int64_t vectors =
      columns < W * kLanes<float> ? (columns + kLanes<float> - 1) / kLanes<float> : W;
  for (int64_t n = 0; n < vectors; n += 2) {
    const int64_t byte = n * FASTRNN_VECTOR_BYTES;
    for (int64_t first = 0; first < rows; first += 2 * height) {
      const int64_t last = rows - height, second = first + height;
      if (second < rows) {
        multiply_tiles_of<F, 2>(vectors - n, tiles.own, p, first, second < last ? second : last,
                                byte);
      } else {
        const int64_t own = first < last ? first : last;
        multiply_tiles_of<F, 1>(vectors - n, tiles.own, p, own, own, byte);
      }
    }
  }
}
