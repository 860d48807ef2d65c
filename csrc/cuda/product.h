// The product of a step, in the ways that a GPU has to multiply. Each says what is stored, what one
// lane loads of a chunk of K, and how a warp multiplies what its lanes have loaded. All leave their
// sums in the same places (tiling.h).
#pragma once

#include "numbers.h"
#include "tiling.h"

namespace fastrnn::cuda {

// What is loaded at a time
template <class T>
struct alignas(16) Vector {
  static constexpr int kSize = 16 / static_cast<int>(sizeof(T));
  T v[kSize];
  FASTRNN_DEVICE void set(int i, T value) { v[i] = value; }
};

// Of 16 bits: in the words that tensor cores take. Were they numbers of their own, the compiler
// would take words apart, and wait for them, before the next ones are on their way.
template <class T>
struct alignas(16) Pairs {
  static constexpr int kSize = 8;
  uint32_t word[kSize / 2];
  FASTRNN_DEVICE void set(int i, T value) { word[i / 2] |= uint32_t{value.bits} << 16 * (i % 2); }
};
template <>
struct Vector<Half> : Pairs<Half> {};
template <>
struct Vector<BFloat16> : Pairs<BFloat16> {};

// Elements k .. k + kSize of a row of K, one by one; zeros beyond its end, and where there is no
// row.
template <class T>
FASTRNN_DEVICE Vector<T> load(const T* row, int64_t k, int64_t K) {
  constexpr int size = Vector<T>::kSize;
  Vector<T> loaded = {};
  if (!row) return loaded;
  FASTRNN_UNROLL
  for (int i = 0; i < size; ++i) {
    if (k + i < K) loaded.set(i, row[k + i]);
  }
  return loaded;
}

// The same where vectors are whole or not there at all: without a branch, so that loads do not wait
// for one another. Of rows that begin at multiples of 16 bytes, and a K that is a multiple of
// kSize.
template <class T>
FASTRNN_DEVICE Vector<T> load_whole(const T* row, int64_t k, int64_t K) {
  Vector<T> loaded = {};
  if (row && k < K) loaded = *reinterpret_cast<const Vector<T>*>(row + k);
  return loaded;
}

// Multiply-adds on the ordinary cores: float32 and float64 to the last bit of their precision.
template <class Real>
struct Fma {
  using T = Real;
  static constexpr bool kTensorCores = false;
  using ChunkOf = Chunk<sizeof(T), true>;
  static constexpr int kLoadedUnits = kLaneUnits;
  FASTRNN_ANYWHERE static constexpr int loaded_unit(int lane, int i) { return lane_unit(lane, i); }

  FASTRNN_DEVICE static void multiply(const Vector<T> (&a)[kLaneRows],
                                      const Vector<T> (&w)[kLoadedUnits], T (&sum)[kTileSums]) {
    FASTRNN_UNROLL
    for (int k = 0; k < Vector<T>::kSize; ++k) {
      FASTRNN_UNROLL
      for (int i = 0; i < kTileSums; ++i) sum[i] += a[i / 2].v[k] * w[i % 2].v[k];
    }
  }
};

// What one lane contributes to a multiplication on the tensor cores, m16n8k16 or (TF32) m16n8k8.
struct Operands {
  uint32_t a[4];
  uint32_t b[2];
};

// The tensor cores' K is a sum like any other: which of a chunk's elements meets which of theirs is
// free as long as it is the same on both sides. So each lane gives them the neighbours that it has
// loaded, two words (of the two halves of their K) in each of kMultiplies turns.
template <class Stored>
struct TensorCores {
  using T = Stored;
  static constexpr bool kTensorCores = true;
  using ChunkOf = Chunk<sizeof(T), false>;
  static constexpr int kLoadedUnits = 1;
  static constexpr int kMultiplies = 2;
  FASTRNN_ANYWHERE static constexpr int loaded_unit(int lane, int) { return group_of(lane); }

  FASTRNN_DEVICE static Operands operands(const Vector<T> (&a)[kLaneRows],
                                          const Vector<T> (&w)[kLoadedUnits], int turn) {
    const int first = 2 * turn, second = first + 1;
    return {{word(a[0], first), word(a[1], first), word(a[0], second), word(a[1], second)},
            {word(w[0], first), word(w[0], second)}};
  }

 private:
  FASTRNN_DEVICE static uint32_t word(const Vector<float>& from, int i) {
    return tf32_of(from.v[i]);
  }
  template <class Sixteen>
  FASTRNN_DEVICE static uint32_t word(const Vector<Sixteen>& from, int i) {
    return from.word[i];
  }
};

// A matrix whose rows are products' operands; a row that is left out counts as zeros.
template <class T>
struct Matrix {
  const T* base;
  int64_t row;  // elements from one row to the next
  bool aligned;

  Matrix() : Matrix(nullptr, 0) {}
  Matrix(const T* base, int64_t row)
      : base(base),
        row(row),
        aligned(reinterpret_cast<uintptr_t>(base) % 16 == 0 && row * sizeof(T) % 16 == 0) {}
};

// The sizes of a product: rows of a; units of w in each group; the length of both.
struct ProductSize {
  int64_t rows = 0;
  int64_t units = 0;
  int64_t K = 0;
  int64_t tiles() const { return tiles_of(rows, units); }
};

// What a lane has loaded of one chunk
template <class P, int kGroups>
struct Loaded {
  Vector<typename P::T> a[kLaneRows];
  Vector<typename P::T> w[kGroups][P::kLoadedUnits];
};

// How many chunks a thread loads before it multiplies the first: a trip to the second-level cache
// takes longer than a chunk's multiplications, so that many are to be on their way at once.
template <class P, int kGroups>
constexpr int kStages = kLaneRows + kGroups * P::kLoadedUnits <= 4 ? 4 : 2;

// What one thread holds while the product is computed
template <class P, int kGroups>
struct Registers {
  Sum<typename P::T> sum[kGroups][kTileSums];
  const typename P::T* row[kLaneRows];
  Loaded<P, kGroups> in[kStages<P, kGroups>];
};

// The part that each thread of a block has in the product of its tile
template <class P, int kGroups>
struct TileProduct {
  using T = typename P::T;
  using Mine = Registers<P, kGroups>;

  Tile tile;
  const ProductSize& size;
  bool a_aligned;
  const Matrix<T>& w;

  // row_of(r): row r of a, or null
  template <class RowOf>
  FASTRNN_DEVICE void begin(int thread, RowOf row_of, Mine& mine) const {
    mine = Mine{};
    FASTRNN_UNROLL
    for (int i = 0; i < kLaneRows; ++i) {
      const int64_t r = tile.row + lane_row(lane_of(thread), i);
      mine.row[i] = r < size.rows ? row_of(r) : nullptr;
    }
  }

  // Is every vector of the product whole? All threads of a launch agree.
  FASTRNN_DEVICE bool is_whole() const {
    return a_aligned && w.aligned && size.K % P::ChunkOf::kVector == 0;
  }

  template <bool kWhole>
  FASTRNN_DEVICE Vector<T> loaded(const T* row, int64_t k) const {
    if constexpr (kWhole) return load_whole(row, k, size.K);
    return load(row, k, size.K);
  }

  FASTRNN_DEVICE static int64_t first_of(int thread, int64_t round) {
    return P::ChunkOf::first(round + warp_of(thread), lane_of(thread));
  }

  template <bool kWhole>
  FASTRNN_DEVICE void load_rows(int thread, int64_t round, const Mine& mine,
                                Loaded<P, kGroups>& in) const {
    const int64_t k = first_of(thread, round);
    FASTRNN_UNROLL
    for (int i = 0; i < kLaneRows; ++i) in.a[i] = loaded<kWhole>(mine.row[i], k);
  }

  template <bool kWhole>
  FASTRNN_DEVICE void load_weights(int thread, int64_t round, Loaded<P, kGroups>& in) const {
    const int lane = lane_of(thread);
    const int64_t k = first_of(thread, round);
    FASTRNN_UNROLL
    for (int i = 0; i < P::kLoadedUnits; ++i) {
      const int64_t unit = unit_loaded(lane, i);
      FASTRNN_UNROLL
      for (int g = 0; g < kGroups; ++g) {
        const T* from = w.base + (g * size.units + unit) * w.row;
        in.w[g][i] = loaded<kWhole>(from, k);
      }
    }
  }

  // Of a tile that ends beyond the last unit the last one again: nobody reads the sums there.
  FASTRNN_DEVICE int64_t unit_loaded(int lane, int i) const {
    const int64_t unit = tile.unit + P::loaded_unit(lane, i), last = size.units - 1;
    return unit < last ? unit : last;
  }

  FASTRNN_DEVICE void leave_sums(int thread, const Mine& mine, Sum<T>* partials) const {
    const int lane = lane_of(thread), warp = warp_of(thread);
    FASTRNN_UNROLL
    for (int g = 0; g < kGroups; ++g) {
      FASTRNN_UNROLL
      for (int i = 0; i < kTileSums; ++i)
        partials[partial_at<kGroups>(warp, sum_row(lane, i), g, sum_unit(lane, i))] =
            mine.sum[g][i];
    }
  }
};

template <class P, int kGroups, bool kWhole, class Block, class Product>
FASTRNN_DEVICE void multiply_chunks(Block& block, const Product& product) {
  constexpr int kAhead = kWhole ? kStages<P, kGroups> : 1;
  const int64_t chunks = P::ChunkOf::count(product.size.K);
  for (int64_t round = 0; round < chunks; round += kAhead * kWarps) {
    const auto load_rows = [&](int thread, auto& mine) {
      FASTRNN_UNROLL
      for (int s = 0; s < kAhead; ++s)
        product.template load_rows<kWhole>(thread, round + s * kWarps, mine, mine.in[s]);
    };
    // Rows come after the wait. Where there is none, before: float32 for sm_80 would be left one
    // register short otherwise, and wait for its loads twice.
    if (!Block::kOverlaps) block.each_thread(load_rows);
    block.each_thread([&](int thread, auto& mine) {
      FASTRNN_UNROLL
      for (int s = 0; s < kAhead; ++s)
        product.template load_weights<kWhole>(thread, round + s * kWarps, mine.in[s]);
    });
    block.await_launch_before();
    if (Block::kOverlaps) block.each_thread(load_rows);
    block.have_loaded();
    FASTRNN_UNROLL
    for (int s = 0; s < kAhead; ++s) block.multiply(s);
  }
}

// Leaves the partial sums of the block's tile in its shared memory.
template <class P, int kGroups, class Block, class RowOf>
FASTRNN_DEVICE void multiply_tile(Block& block, const ProductSize& size, RowOf row_of,
                                  bool a_aligned, const Matrix<typename P::T>& w) {
  using Mine = Registers<P, kGroups>;
  const TileProduct<P, kGroups> product = {tile_of(block.index(), size.units), size, a_aligned, w};
  block.each_thread([&](int thread, Mine& mine) { product.begin(thread, row_of, mine); });
  if (product.is_whole()) {
    multiply_chunks<P, kGroups, true>(block, product);
  } else {
    multiply_chunks<P, kGroups, false>(block, product);
  }
  block
      .await_launch_before();  // what comes may read and write, where there was nothing to multiply
  block.each_thread(
      [&](int thread, Mine& mine) { product.leave_sums(thread, mine, block.partials()); });
  block.meet();
}

// An element of the product whose partial sums all warps have left
template <int kGroups, class S>
FASTRNN_DEVICE S total(const S* partials, int row, int group, int unit) {
  S sum = 0;
  FASTRNN_UNROLL
  for (int warp = 0; warp < kWarps; ++warp)
    sum += partials[partial_at<kGroups>(warp, row, group, unit)];
  return sum;
}

// visit(row, unit, product) for each element of the block's tile. product(g) is that of group g,
// once there is one.
template <int kGroups, class Block, class Visit>
FASTRNN_DEVICE void each_element(Block& block, const ProductSize& size, Visit visit) {
  const Tile tile = tile_of(block.index(), size.units);
  block.each_thread([&](int thread, auto&) {
    if (!has_element(thread)) return;
    const int row = element_row(thread), unit = element_unit(thread);
    const int64_t r = tile.row + row, j = tile.unit + unit;
    if (r >= size.rows || j >= size.units) return;
    visit(r, j, [&](int g) { return total<kGroups>(block.partials(), row, g, unit); });
  });
}

}  // namespace fastrnn::cuda
