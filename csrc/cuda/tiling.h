// Who works on what: the index arithmetic of a step, free of memory and of hardware.
//
// A step is a product [B, K] x [groups * J, K]^T with equations on its result. A block computes a
// tile of kTileRows rows times kTileUnits units of every group. Its warps share K: each takes every
// kWarps-th chunk, and the partial sums are added in the order of the warps, so a result depends on
// K and on its own row alone.
#pragma once

#include "portable.h"

namespace fastrnn::cuda {

constexpr int kLanes = 32;  // of a warp
constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kLanes;
constexpr int kTileRows = 16;
constexpr int kTileUnits = 8;
constexpr int kTileSums = 4;   // of a tile that each lane of a warp holds
constexpr int kLaneRows = 2;   // that these come from
constexpr int kLaneUnits = 2;  // that these come from

FASTRNN_ANYWHERE constexpr int64_t divide_up(int64_t n, int64_t by) { return (n + by - 1) / by; }

FASTRNN_ANYWHERE constexpr int warp_of(int thread) { return thread / kLanes; }
FASTRNN_ANYWHERE constexpr int lane_of(int thread) { return thread % kLanes; }

// The layout of the tensor cores' accumulators (PTX ISA, m16n8): lanes in groups of four, a group
// holds two rows, a lane two neighbouring units of each.
constexpr int kGroupLanes = 4;
FASTRNN_ANYWHERE constexpr int group_of(int lane) { return lane / kGroupLanes; }
FASTRNN_ANYWHERE constexpr int place_of(int lane) { return lane % kGroupLanes; }
FASTRNN_ANYWHERE constexpr int lane_row(int lane, int i) { return group_of(lane) + 8 * i; }
FASTRNN_ANYWHERE constexpr int lane_unit(int lane, int i) { return 2 * place_of(lane) + i; }
FASTRNN_ANYWHERE constexpr int sum_row(int lane, int i) { return lane_row(lane, i / 2); }
FASTRNN_ANYWHERE constexpr int sum_unit(int lane, int i) { return lane_unit(lane, i % 2); }

// Which tile a block computes. All tiles are in one dimension of the grid, the only one that takes
// more than 65,535 blocks; it takes fewer than 2^31, and a division of 64 bits costs a hundred
// instructions before the first load.
struct Tile {
  int64_t row;   // the first one
  int64_t unit;  // the first one
};
FASTRNN_ANYWHERE constexpr int64_t tiles_of(int64_t rows, int64_t units) {
  return divide_up(rows, kTileRows) * divide_up(units, kTileUnits);
}
FASTRNN_ANYWHERE constexpr Tile tile_of(uint32_t block, int64_t units) {
  const uint32_t across = static_cast<uint32_t>(divide_up(units, kTileUnits));
  return {int64_t{block / across} * kTileRows, int64_t{block % across} * kTileUnits};
}

// Which element of the tile a thread applies the equations to; those beyond have none.
constexpr int kTileElements = kTileRows * kTileUnits;
FASTRNN_ANYWHERE constexpr bool has_element(int thread) { return thread < kTileElements; }
FASTRNN_ANYWHERE constexpr int element_row(int thread) { return thread / kTileUnits; }
FASTRNN_ANYWHERE constexpr int element_unit(int thread) { return thread % kTileUnits; }

// Partial sums in shared memory: [warp][row][group][unit]. The padding spreads rows over banks.
template <int kGroups>
constexpr int kPartialRow = kGroups * kTileUnits + 8;
template <int kGroups>
constexpr int kPartials = kWarps * kTileRows * kPartialRow<kGroups>;
template <int kGroups>
FASTRNN_ANYWHERE constexpr int partial_at(int warp, int row, int group, int unit) {
  return (warp * kTileRows + row) * kPartialRow<kGroups> + group * kTileUnits + unit;
}

// How a warp's chunk of K is dealt to its lanes: each loads kVector neighbours, 16 bytes, of its
// rows. With kShared all lanes load the same ones; else the four lanes of a group share the chunk.
template <int kElementBytes, bool kShared>
struct Chunk {
  static constexpr int kVector = 16 / kElementBytes;
  static constexpr int kSize = kShared ? kVector : kGroupLanes * kVector;
  FASTRNN_ANYWHERE static constexpr int64_t count(int64_t K) { return divide_up(K, kSize); }
  FASTRNN_ANYWHERE static constexpr int64_t first(int64_t chunk, int lane) {
    return chunk * kSize + (kShared ? 0 : place_of(lane) * kVector);
  }
};

}  // namespace fastrnn::cuda
