// Formats of packed weights (WeightFormat in ../kernels.h): what a product reads of a panel, and of
// a row. `F` is a number that calls compute with, whose panels are plain, or one of the two here,
// or in an extension one of dot-formats-inl.h or tile-formats-inl.h.

// The upper halves of float32. Products are those of float32 in the same order.
struct Bfloat16 {};

// Integers with a scale for each column. What they meet is rounded to as many as well, with a scale
// for each row, so that sums are exact, in whatever order.
struct Int8 {};

template <class F>
struct FormatOf {
  typedef F Real;
  typedef F Left;  // elements of a row
  static constexpr int64_t kBytes = sizeof(F), kGroup = 1, kScaleBytes = 0;
};
template <>
struct FormatOf<Bfloat16> {
  typedef float Real;
  typedef float Left;
  static constexpr int64_t kBytes = 2, kGroup = 2, kScaleBytes = 0;
};
template <>
struct FormatOf<Int8> {
  typedef float Real;
  typedef int16_t Left;
  static constexpr int64_t kBytes = 1, kGroup = 4, kScaleBytes = sizeof(float);
  static constexpr int kZero = 0;  // bytes of a row's zeros
};
template <class F>
using NumberOf = typename FormatOf<F>::Real;
template <class F>
using LeftOf = typename FormatOf<F>::Left;
// Are rows rounded to be multiplied? Do they and the columns have scales?
template <class F>
constexpr bool kRoundsRows = sizeof(LeftOf<F>) < sizeof(NumberOf<F>);
template <class F>
constexpr bool kScales = FormatOf<F>::kScaleBytes > 0;
template <class F>
constexpr bool kWidens = FormatOf<F>::kBytes == 2 && !kRoundsRows<F>;

// What a call makes its products in beside vectors: nothing, unless the format says otherwise
// (tile-formats-inl.h)
template <class F>
struct TilesOf {
  struct Type {};
  static constexpr bool kAny = false;
};

template <class F>
FASTRNN_INLINE int64_t panel_bytes(int64_t K, int64_t columns) {
  const int64_t grouped = (K + FormatOf<F>::kGroup - 1) / FormatOf<F>::kGroup * FormatOf<F>::kGroup;
  return (grouped * FormatOf<F>::kBytes + FormatOf<F>::kScaleBytes) * columns;
}

FASTRNN_INLINE const char* at_byte(const void* base, int64_t bytes) {
  return static_cast<const char*>(base) + bytes;
}

// The i-th of panels of N vectors and K
template <class F, int N>
FASTRNN_INLINE const void* panel_at(const void* panels, int64_t i, int64_t K) {
  return at_byte(panels, i * panel_bytes<F>(K, N * kLanes<NumberOf<F>>));
}

// ---- numbers ----

constexpr float kMostOfInt8 = 127;

// Rows and columns with nothing larger are zeros in int8: the scale of one of a smaller number
// would have few bits left, or none.
constexpr float kSmallestOfInt8 = 0x1p-100f;

// The scale of numbers whose largest magnitude is this; that of an infinity or NaN is NaN
FASTRNN_INLINE float scale_of(float largest) {
  if (!(largest <= __FLT_MAX__)) return __builtin_nanf("");
  return largest < kSmallestOfInt8 ? 0 : largest / kMostOfInt8;
}

// Numbers below 2^22 rounded to integers, half to even; a quotient, since the compiler might make
// one rounding of a product's and this one.
FASTRNN_INLINE Ints rounded_quotient(Vec<float> a, float b) {
  const Vec<float> shift = broadcast(0x1.8p23f);
  return (Ints)(a / b + shift) - (Ints)shift;
}

// ---- panels ----

template <class Real>
void pack_plain(const Real* panel, int64_t K, int64_t columns, char* to) {
  __builtin_memcpy(to, panel, K * columns * sizeof(Real));
}

// To the nearest, half to even; there is no infinity or NaN among weights that are packed
FASTRNN_INLINE uint16_t upper_half(float number) {
  uint32_t bits;
  __builtin_memcpy(&bits, &number, sizeof bits);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline void pack_bfloat16(const float* panel, int64_t K, int64_t columns, char* to) {
  for (int64_t k = 0; k < K; k += 2) {
    for (int64_t j = 0; j < columns; ++j, to += 4) {
      const bool both = k + 1 < K;
      const uint16_t pair[2] = {upper_half(panel[k * columns + j]),
                                both ? upper_half(panel[(k + 1) * columns + j]) : uint16_t{0}};
      __builtin_memcpy(to, pair, sizeof pair);
    }
  }
}

// The scale of column j of a panel, into its place among all of them
FASTRNN_INLINE float pack_scale(const float* panel, int64_t K, int64_t columns, int64_t j,
                                char* to) {
  float largest = 0;
  for (int64_t k = 0; k < K; ++k) {
    const float own = __builtin_fabsf(panel[k * columns + j]);
    largest = own > largest ? own : largest;
  }
  const float scale = scale_of(largest);
  __builtin_memcpy(to + j * sizeof scale, &scale, sizeof scale);
  return scale;
}

// A weight as an integer in the scale of its column; zero beyond the last k
FASTRNN_INLINE int8_t integer_of(const float* panel, int64_t k, int64_t K, int64_t columns,
                                 int64_t j, float scale) {
  const bool zero = k >= K || !(scale > 0);
  return static_cast<int8_t>(zero ? 0 : __builtin_nearbyintf(panel[k * columns + j] / scale));
}

inline void pack_int8(const float* panel, int64_t K, int64_t columns, char* to) {
  constexpr int64_t group = FormatOf<Int8>::kGroup;
  int8_t* weights = reinterpret_cast<int8_t*>(to + columns * sizeof(float));
  for (int64_t j = 0; j < columns; ++j) {
    const float scale = pack_scale(panel, K, columns, j, to);
    for (int64_t k = 0; k < round_up(K, group); ++k) {
      const int64_t at = k % 2 * 2 + k % group / 2;  // see widen_bytes
      weights[(k / group * columns + j) * group + at] = integer_of(panel, k, K, columns, j, scale);
    }
  }
}

// ---- tiles ----

// The sums of P panels, M rows and N vectors are written to a tile, or with `add` are added to what
// it holds. Its rows are `stride` apart, its panels M of them.
template <class V, int P, int M, int N, class Real>
FASTRNN_INLINE void store_tile(const V (&sum)[P][M][N], bool add, Real* tile, int64_t stride) {
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 16
      for (int n = 0; n < N; ++n) {
        Real* to = tile + (p * M + m) * stride + n * kLanes<Real>;
        V own = sum[p][m][n];
        if (add) {
          V before;
          __builtin_memcpy(&before, to, sizeof before);
          own += before;
        }
        __builtin_memcpy(to, &own, sizeof own);
      }
    }
  }
}

// Two weights of each of some columns, as the upper halves of float32: the first of them or the
// second
template <bool kSecond>
FASTRNN_INLINE Vec<float> widen(const char* pairs) {
  Ints both;
  __builtin_memcpy(&both, pairs, sizeof both);
  return (Vec<float>)(kSecond ? both & ~0xffff : both << 16);
}

// `length` weights of each of W vectors of columns as plain numbers, and one more if that is odd
template <int W>
FASTRNN_INLINE void widen_rows(const char* pairs, int64_t length, float* to) {
  constexpr int64_t lanes = kLanes<float>;
  for (int64_t k = 0; k < length; k += 2, to += 2 * W * lanes) {
#pragma GCC unroll 16
    for (int n = 0; n < W; ++n, pairs += FASTRNN_VECTOR_BYTES) {
      store(to + n * lanes, widen<false>(pairs));
      store(to + (W + n) * lanes, widen<true>(pairs));
    }
  }
}

// sum[m][n] += a[m][k] * the weights of vector n. What is fewer, rows or vectors, waits in
// registers.
template <bool kSecond, int M, int N>
FASTRNN_INLINE void add_products(const float* const (&row)[M], int64_t k, const char* pairs,
                                 Vec<float> (&sum)[M][N]) {
  constexpr int64_t vector = FASTRNN_VECTOR_BYTES;
  if constexpr (M <= N) {
    Vec<float> x[M];
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) x[m] = broadcast(row[m][k]);
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) {
      const Vec<float> w = widen<kSecond>(pairs + n * vector);
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) sum[m][n] += x[m] * w;
    }
  } else {
    Vec<float> w[N];
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) w[n] = widen<kSecond>(pairs + n * vector);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
      const Vec<float> x = broadcast(row[m][k]);
#pragma GCC unroll 16
      for (int n = 0; n < N; ++n) sum[m][n] += x * w[n];
    }
  }
}

// As multiply_tile (tile-inl.h) for a single run of k; `panel_stride` in bytes.
template <int M, int N, int W, int P>
FASTRNN_INLINE void multiply_pairs(Bfloat16, const float* const* a, int64_t length,
                                   const char* panel, int64_t panel_stride, bool add, float* tile,
                                   int64_t tile_stride) {
  const float* row[M];
  Vec<float> sum[P][M][N] = {};
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) row[m] = a[m];
  int64_t k = 0;
  for (; k + 1 < length; k += 2, panel += W * FASTRNN_VECTOR_BYTES) {
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) add_products<false>(row, k, panel + p * panel_stride, sum[p]);
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) add_products<true>(row, k + 1, panel + p * panel_stride, sum[p]);
  }
  if (k < length) {
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) add_products<false>(row, k, panel + p * panel_stride, sum[p]);
  }
  store_tile(sum, add, tile, tile_stride);
}

// Of four weights of each of some columns the first two or the others, which are the lower and the
// upper halves of as many shorts
template <bool kUpper>
FASTRNN_INLINE Shorts widen_bytes(const char* fours) {
  Shorts both;
  __builtin_memcpy(&both, fours, sizeof both);
  return kUpper ? both >> 8 : (both << 8) >> 8;
}

FASTRNN_INLINE Shorts broadcast_pair(const int16_t* pair) {
  int32_t both;
  __builtin_memcpy(&both, pair, sizeof both);
  return (Shorts)(both - Ints{});
}

// sum[m][n] += a[m][k] * w[k] + a[m][k + 1] * w[k + 1], for the first two of four weights or the
// others
template <bool kUpper, int M, int N>
FASTRNN_INLINE void add_pairs(const int16_t* const (&row)[M], int64_t k, const char* fours,
                              Ints (&sum)[M][N]) {
  Shorts x[M];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) x[m] = broadcast_pair(row[m] + k);
#pragma GCC unroll 16
  for (int n = 0; n < N; ++n) {
    const Shorts w = widen_bytes<kUpper>(fours + n * FASTRNN_VECTOR_BYTES);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) sum[m][n] += sum_of_pairs(x[m], w);
  }
}

// Vectors of a tile of M rows that registers have room for beside the rows. Few will do: an
// addition of integers takes one cycle.
template <int M>
constexpr int kIntVectors = FASTRNN_VECTOR_REGISTERS == 16 ? (M > 4 ? 1 : 8 / M) : 24 / M;

// The same in integers, which the tile holds until scale_sums
template <int M, int N, int W, int P>
FASTRNN_INLINE void multiply_pairs(Int8, const int16_t* const* a, int64_t length, const char* panel,
                                   int64_t panel_stride, bool add, float* tile,
                                   int64_t tile_stride) {
  constexpr int64_t lanes = kLanes<float>, vector = FASTRNN_VECTOR_BYTES;
  constexpr int most = kIntVectors<M>;
  if constexpr (N > most) {
    multiply_pairs<M, most, W, P>(Int8{}, a, length, panel, panel_stride, add, tile, tile_stride);
    multiply_pairs<M, N - most, W, P>(Int8{}, a, length, panel + most * vector, panel_stride, add,
                                      tile + most * lanes, tile_stride);
  } else {
    const int16_t* row[M];
    Ints sum[P][M][N] = {};
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) row[m] = a[m];
    for (int64_t k = 0; k < length; k += 4, panel += W * vector) {
#pragma GCC unroll 16
      for (int p = 0; p < P; ++p) add_pairs<false>(row, k, panel + p * panel_stride, sum[p]);
#pragma GCC unroll 16
      for (int p = 0; p < P; ++p) add_pairs<true>(row, k + 2, panel + p * panel_stride, sum[p]);
    }
    store_tile(sum, add, tile, tile_stride);
  }
}

// What a sum of integers has too much: nothing
FASTRNN_INLINE Ints without_offset(Int8, Ints sum, const char*) { return sum; }

// Sums of integers become numbers: in the scales of their row and of their column.
template <class F>
FASTRNN_NOINLINE void scale_sums(const float* row_scales, int64_t rows, const char* panel,
                                 int64_t width, int64_t columns, float* sums, int64_t stride) {
  constexpr int lanes = kLanes<float>;
  for (int64_t r = 0; r < rows; ++r) {
    const Vec<float> own = broadcast(row_scales[r]);
    for (int64_t j = 0; j < width && j < columns; j += lanes) {
      Vec<float> scale;
      Ints sum;
      __builtin_memcpy(&scale, panel + j * sizeof(float), sizeof scale);
      __builtin_memcpy(&sum, sums + r * stride + j, sizeof sum);
      sum = without_offset(F{}, sum, panel + width * sizeof(float) + j * sizeof(int32_t));
      store(sums + r * stride + j, __builtin_convertvector(sum, Vec<float>) * (scale * own));
    }
  }
}
