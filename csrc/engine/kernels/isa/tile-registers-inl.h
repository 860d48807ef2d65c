// Registers of up to 16 rows of 64 bytes, called tiles, and the instructions that add the product
// of two to a third (AMX). A compilation's flags say whether it may use them; else the form in
// plain C++ stands in, as in dots-inl.h.

constexpr int kTiles = 8;
constexpr int64_t kTileRows = 16, kTileRowBytes = 64;

// How many rows every tile has, and how many bytes each of them, as the instruction reads it
struct alignas(64) TileShapes {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[2 * kTiles] = {};
  uint8_t rows[2 * kTiles] = {};
};

// A tile is named by its number, T; C += A * B. In four bytes of a row of B stand the k of one
// column, four or two of them, that meet as many in four bytes of a row of A. C is 32 bits each.
class PlainTiles {
 public:
  // All become zero.
  void shape(const TileShapes& shapes) {
    shapes_ = shapes;
    __builtin_memset(tiles_, 0, sizeof tiles_);
  }
  void release() {}
  template <int T>
  void zero() {
    __builtin_memset(tiles_[T], 0, sizeof tiles_[T]);
  }
  // Rows are `stride` bytes apart in memory.
  template <int T>
  void load(const char* from, int64_t stride) {
    zero<T>();
    for (int m = 0; m < shapes_.rows[T]; ++m)
      __builtin_memcpy(tiles_[T][m], from + m * stride, shapes_.row_bytes[T]);
  }
  template <int T>
  void store(char* to, int64_t stride) const {
    for (int m = 0; m < shapes_.rows[T]; ++m)
      __builtin_memcpy(to + m * stride, tiles_[T][m], shapes_.row_bytes[T]);
  }
  // Bytes of A are unsigned, those of B signed; sums wrap around.
  template <int C, int A, int B>
  void add_bytes() {
    each_vector<C>([&](int m, int at) {
      UnsignedInts sum;
      __builtin_memcpy(&sum, tiles_[C][m] + at, sizeof sum);
      each_group<A, B>(m, at, [&](Ints a, Ints b) { sum = plain_dot_of_bytes(sum, a, b); });
      __builtin_memcpy(tiles_[C][m] + at, &sum, sizeof sum);
    });
  }
  // Numbers of bfloat16: products of the first of each pair and those of the second are summed
  // apart, from zero, and both together are added to C. Numbers that are not normal count as zero.
  template <int C, int A, int B>
  void add_halves() {
    each_vector<C>([&](int m, int at) {
      const Vec<float> one = broadcast(1.0f);
      Vec<float> sum, first = {}, second = {};
      each_group<A, B>(m, at, [&](Ints a, Ints b) {
        first = plain_add_products(first, lower_halves(a), lower_halves(b));
        second = plain_add_products(second, upper_halves(a), upper_halves(b));
      });
      __builtin_memcpy(&sum, tiles_[C][m] + at, sizeof sum);
      sum = plain_add_products(flushed(sum), plain_add_products(first, second, one), one);
      __builtin_memcpy(tiles_[C][m] + at, &sum, sizeof sum);
    });
  }

 private:
  // visit(row, byte) for what a vector holds of a tile, at a time
  template <int C, class Visit>
  void each_vector(Visit visit) const {
    for (int m = 0; m < shapes_.rows[C]; ++m) {
      for (int at = 0; at < shapes_.row_bytes[C]; at += FASTRNN_VECTOR_BYTES) visit(m, at);
    }
  }
  // visit(a, b) for each four bytes of a row of A, in all lanes, and what they meet of B
  template <int A, int B, class Visit>
  void each_group(int m, int at, Visit visit) const {
    for (int k = 0; k < shapes_.row_bytes[A] / 4; ++k) {
      int32_t a;
      Ints b;
      __builtin_memcpy(&a, tiles_[A][m] + 4 * k, sizeof a);
      __builtin_memcpy(&b, tiles_[B][k] + at, sizeof b);
      visit(a - Ints{}, b);
    }
  }

  TileShapes shapes_;
  alignas(64) char tiles_[kTiles][kTileRows][kTileRowBytes];
};

// Clang 14 has other names for the flags.
#if FASTRNN_VECTOR_BYTES == 64 && (defined(__AMX_TILE__) || defined(__AMXTILE__))

// Compilers keep nothing in tiles unless they are asked to by functions of theirs, and these
// statements in their order. So none has to be told which tiles are in use.
class AmxTiles {
 public:
  void shape(const TileShapes& shapes) { asm volatile("ldtilecfg\t%0" : : "m"(shapes)); }
  void release() { asm volatile("tilerelease"); }
  template <int T>
  void zero() {
    asm volatile("tilezero\t%%tmm%c0" : : "i"(T));
  }
  template <int T>
  void load(const char* from, int64_t stride) {
    asm volatile("tileloadd\t(%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(T) : "memory");
  }
  template <int T>
  void store(char* to, int64_t stride) const {
    asm volatile("tilestored\t%%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride), "i"(T) : "memory");
  }
  template <int C, int A, int B>
  void add_bytes() {
    asm volatile("tdpbusd\t%%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
  }
  template <int C, int A, int B>
  void add_halves() {
    asm volatile("tdpbf16ps\t%%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
  }
};
typedef AmxTiles Tiles;

#else
typedef PlainTiles Tiles;
#endif
