// Formats whose products are dot products within each lane (dots-inl.h): an extension has one of
// them. Lanes hold as many k as 32 bits have room for, of rows as of panels.

// The integers of Int8. Those of rows lie 128 higher, so as to be unsigned, and each column knows,
// after the scales, what that adds to its sums. Results are those of Int8, bit for bit.
struct Int8Dots {};

// Numbers of bfloat16, and rows that are rounded to them; sums are float32 (plain_dot_of_halves).
struct Bfloat16Dots {};

template <>
struct FormatOf<Int8Dots> {
  typedef float Real;
  typedef uint8_t Left;
  typedef UnsignedInts Sum;
  static constexpr int64_t kBytes = 1, kGroup = 4, kScaleBytes = sizeof(float) + sizeof(int32_t);
  static constexpr int kZero = 128;
};
template <>
struct FormatOf<Bfloat16Dots> {
  typedef float Real;
  typedef uint16_t Left;
  typedef Vec<float> Sum;
  static constexpr int64_t kBytes = 2, kGroup = 2, kScaleBytes = 0;
  static constexpr int kZero = 0;
};

// ---- panels ----

// Numbers of bfloat16 in the lower halves: to the nearest, half to even; a NaN stays one.
FASTRNN_INLINE Ints rounded_halves(Vec<float> numbers) {
  const UnsignedInts bits = (UnsignedInts)numbers;
  const UnsignedInts nan = (UnsignedInts)(numbers != numbers);
  const UnsignedInts rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  return (Ints)((nan & (bits >> 16 | 0x40)) | (~nan & rounded));
}

FASTRNN_INLINE void pack(Int8Dots, const float* panel, int64_t K, int64_t columns, char* to) {
  constexpr int64_t group = FormatOf<Int8Dots>::kGroup;
  char* offsets = to + columns * sizeof(float);
  int8_t* weights = reinterpret_cast<int8_t*>(offsets + columns * sizeof(int32_t));
  for (int64_t j = 0; j < columns; ++j) {
    const float scale = pack_scale(panel, K, columns, j, to);
    uint32_t offset = 0;
    for (int64_t k = 0; k < round_up(K, group); ++k) {
      const int8_t own = integer_of(panel, k, K, columns, j, scale);
      weights[(k / group * columns + j) * group + k % group] = own;
      offset += static_cast<uint32_t>(FormatOf<Int8Dots>::kZero * own);
    }
    __builtin_memcpy(offsets + j * sizeof offset, &offset, sizeof offset);
  }
}

FASTRNN_INLINE void pack(Bfloat16Dots, const float* panel, int64_t K, int64_t columns, char* to) {
  constexpr int lanes = kLanes<float>;
  for (int64_t k = 0; k < K; k += 2) {
    for (int64_t j = 0; j < columns; j += lanes, to += FASTRNN_VECTOR_BYTES) {
      Ints both = rounded_halves(load(panel + k * columns + j));
      if (k + 1 < K) both |= rounded_halves(load(panel + (k + 1) * columns + j)) << 16;
      __builtin_memcpy(to, &both, sizeof both);
    }
  }
}

template <class F>
void pack_dots(const float* panel, int64_t K, int64_t columns, char* to) {
  pack(F{}, panel, K, columns, to);
}

FASTRNN_INLINE Ints without_offset(Int8Dots, Ints sum, const char* offset) {
  UnsignedInts own;
  __builtin_memcpy(&own, offset, sizeof own);
  return (Ints)((UnsignedInts)sum - own);
}

// ---- rows ----

FASTRNN_INLINE Ints rounded_for(Int8Dots, Vec<float> row, float scale) {
  return rounded_quotient(row, scale) + FormatOf<Int8Dots>::kZero;
}

FASTRNN_INLINE Ints rounded_for(Bfloat16Dots, Vec<float> row, float) { return rounded_halves(row); }

// ---- tiles ----

FASTRNN_INLINE UnsignedInts dot(UnsignedInts sum, Ints row, Ints weights) {
  return dot_of_bytes(sum, row, weights);
}
FASTRNN_INLINE Vec<float> dot(Vec<float> sum, Ints row, Ints weights) {
  return dot_of_halves(sum, row, weights);
}

// Those elements of a row that the lanes of a product meet, of `count` bytes at the most
template <class Left>
FASTRNN_INLINE Ints broadcast_group(const Left* row, int64_t count = sizeof(int32_t)) {
  int32_t all = 0;
  __builtin_memcpy(&all, row, count < 4 ? count : 4);
  return all - Ints{};
}

FASTRNN_INLINE Ints load_group(const char* panel) {
  Ints all;
  __builtin_memcpy(&all, panel, sizeof all);
  return all;
}

// sum[m][n] += x[m] * the weights of vector n; `row(m)` is x[m]. What is fewer, rows or vectors,
// waits in registers.
template <class Sum, int M, int N, class Row>
FASTRNN_INLINE void add_dots(Row row, const char* panel, Sum (&sum)[M][N]) {
  constexpr int64_t vector = FASTRNN_VECTOR_BYTES;
  if constexpr (M <= N) {
    Ints x[M];
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) x[m] = row(m);
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) {
      const Ints w = load_group(panel + n * vector);
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) sum[m][n] = dot(sum[m][n], x[m], w);
    }
  } else {
    Ints w[N];
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) w[n] = load_group(panel + n * vector);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
      const Ints x = row(m);
#pragma GCC unroll 16
      for (int n = 0; n < N; ++n) sum[m][n] = dot(sum[m][n], x, w[n]);
    }
  }
}

// As multiply_tile (tile-inl.h) for a single run of k; `panel_stride` in bytes. The last of a row's
// elements may share their lanes with others, which do not count.
template <class F, int M, int N, int W, int P>
FASTRNN_INLINE void multiply_dots(const LeftOf<F>* const* a, int64_t length, const char* panel,
                                  int64_t panel_stride, bool add, float* tile,
                                  int64_t tile_stride) {
  constexpr int64_t group = FormatOf<F>::kGroup;
  const LeftOf<F>* row[M];
  typename FormatOf<F>::Sum sum[P][M][N] = {};
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) row[m] = a[m];
  int64_t k = 0;
  for (; k + group <= length; k += group, panel += W * FASTRNN_VECTOR_BYTES) {
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) {
      add_dots([&](int m) { return broadcast_group(row[m] + k); }, panel + p * panel_stride,
               sum[p]);
    }
  }
  if (k < length) {
    const int64_t bytes = (length - k) * static_cast<int64_t>(sizeof(LeftOf<F>));
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) {
      add_dots([&](int m) { return broadcast_group(row[m] + k, bytes); }, panel + p * panel_stride,
               sum[p]);
    }
  }
  store_tile(sum, add, tile, tile_stride);
}

template <int M, int N, int W, int P>
FASTRNN_INLINE void multiply_pairs(Int8Dots, const uint8_t* const* a, int64_t length,
                                   const char* panel, int64_t panel_stride, bool add, float* tile,
                                   int64_t tile_stride) {
  multiply_dots<Int8Dots, M, N, W, P>(a, length, panel, panel_stride, add, tile, tile_stride);
}
template <int M, int N, int W, int P>
FASTRNN_INLINE void multiply_pairs(Bfloat16Dots, const uint16_t* const* a, int64_t length,
                                   const char* panel, int64_t panel_stride, bool add, float* tile,
                                   int64_t tile_stride) {
  multiply_dots<Bfloat16Dots, M, N, W, P>(a, length, panel, panel_stride, add, tile, tile_stride);
}
