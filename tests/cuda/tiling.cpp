// Proofs about csrc/cuda/tiling.h, by exhaustion while this is compiled; nothing is run.
#include "cuda/tiling.h"

using namespace fastrnn::cuda;

// Every lane's sums together are the tile, each element once.
constexpr bool sums_cover_the_tile() {
  int seen[kTileRows][kTileUnits] = {};
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int i = 0; i < kTileSums; ++i) ++seen[sum_row(lane, i)][sum_unit(lane, i)];
  }
  for (auto& row : seen) {
    for (int count : row) {
      if (count != 1) return false;
    }
  }
  return true;
}
static_assert(sums_cover_the_tile());

// Every element of the tile gets its equations from one thread.
constexpr bool elements_cover_the_tile() {
  int seen[kTileRows][kTileUnits] = {};
  for (int thread = 0; thread < kThreads; ++thread) {
    if (has_element(thread)) ++seen[element_row(thread)][element_unit(thread)];
  }
  for (auto& row : seen) {
    for (int count : row) {
      if (count != 1) return false;
    }
  }
  return true;
}
static_assert(elements_cover_the_tile());

// Partial sums lie side by side, none on another, all within the memory that is taken.
template <int kGroups>
constexpr bool partials_are_apart() {
  bool seen[kPartials<kGroups>] = {};
  for (int warp = 0; warp < kWarps; ++warp) {
    for (int row = 0; row < kTileRows; ++row) {
      for (int group = 0; group < kGroups; ++group) {
        for (int unit = 0; unit < kTileUnits; ++unit) {
          const int at = partial_at<kGroups>(warp, row, group, unit);
          if (at < 0 || at >= kPartials<kGroups> || seen[at]) return false;
          seen[at] = true;
        }
      }
    }
  }
  return true;
}
static_assert(partials_are_apart<1>() && partials_are_apart<3>() && partials_are_apart<4>());
static_assert(kPartials<4> * sizeof(double) <= 48 * 1024, "more needs a call to ask for it");

// Each element of K is loaded by one warp, there once: by one lane of every group, or by all lanes
// alike. First elements are multiples of what is loaded at a time.
template <class ChunkOf, bool kShared>
constexpr bool chunks_cover(int64_t K) {
  int seen[300] = {};
  const int64_t chunks = ChunkOf::count(K);
  for (int64_t round = 0; round < chunks; round += kWarps) {
    for (int thread = 0; thread < kThreads; ++thread) {
      const int lane = lane_of(thread);
      if (group_of(lane) != 3) continue;
      const int64_t first = ChunkOf::first(round + warp_of(thread), lane);
      if (first % ChunkOf::kVector != 0) return false;
      for (int i = 0; i < ChunkOf::kVector; ++i) {
        if (first + i < K) ++seen[first + i];
      }
    }
  }
  for (int64_t k = 0; k < K; ++k) {
    if (seen[k] != (kShared ? kGroupLanes : 1)) return false;
  }
  return true;
}
template <class ChunkOf, bool kShared>
constexpr bool chunks_cover_all() {
  constexpr int64_t lengths[] = {0,  1,  2,  7,  8,   15,  16,  17,  31,  32,
                                 33, 63, 64, 65, 127, 128, 129, 255, 256, 257};
  for (int64_t K : lengths) {
    if (!chunks_cover<ChunkOf, kShared>(K)) return false;
  }
  return true;
}
static_assert(chunks_cover_all<Chunk<2, false>, false>(), "16 bits on tensor cores");
static_assert(chunks_cover_all<Chunk<4, false>, false>(), "TF32");
static_assert(chunks_cover_all<Chunk<4, true>, true>(), "float32");
static_assert(chunks_cover_all<Chunk<8, true>, true>(), "float64");

// Tiles cover rows x units, each place once, and begin inside.
constexpr bool tiles_cover(int64_t rows, int64_t units) {
  int seen[8][8] = {};
  for (uint32_t block = 0; block < tiles_of(rows, units); ++block) {
    const Tile tile = tile_of(block, units);
    if (tile.row % kTileRows || tile.unit % kTileUnits) return false;
    if (tile.row >= rows || tile.unit >= units) return false;
    ++seen[tile.row / kTileRows][tile.unit / kTileUnits];
  }
  for (int64_t i = 0; i * kTileRows < rows; ++i) {
    for (int64_t j = 0; j * kTileUnits < units; ++j) {
      if (seen[i][j] != 1) return false;
    }
  }
  return true;
}
static_assert(tiles_cover(1, 1) && tiles_cover(16, 8) && tiles_cover(17, 9) && tiles_cover(100, 3));
static_assert(tiles_cover(3, 64) && tiles_cover(128, 64) && tiles_cover(0, 5) && tiles_cover(5, 0));

// Rows beyond 32 bits, as many as there are blocks for
constexpr int64_t kManyRows = (int64_t{1} << 31) * kTileRows;
static_assert(tile_of(tiles_of(kManyRows, 8) - 1, 8).row == kManyRows - kTileRows);
