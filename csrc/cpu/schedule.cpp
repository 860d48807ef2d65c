#include "schedule.h"

#include <algorithm>
#include <cmath>

#if defined(__unix__)
#include <unistd.h>
#endif

namespace fastrnn {
namespace {

// Properties of current x86 and Arm server cores, in cycles and bytes. Rough on purpose: the
// choices they decide are wide apart except near the borders, where either choice is good.
constexpr double kFmaPerCycle = 2;
constexpr double kFmaLatency = 4;
constexpr double kNearBytesPerCycle = 40;  // second-level cache
constexpr double kFarBytesPerCycle = 12;   // beyond it
constexpr double kTileCycles = 30;         // starting and emptying a tile
constexpr double kBarrierCycles = 600;
constexpr double kTeamCycles = 40000;  // waking the threads of a call, and the risk of waiting

double product_cycles(double rows, int vectors, int tallest, int64_t K) {
  const double tiles = std::ceil(rows / tallest);
  const double height = rows / tiles;
  return tiles * (K * std::max(height * vectors / kFmaPerCycle, kFmaLatency) + kTileCycles);
}

double streaming_cycles(int64_t panel_bytes, int64_t panels) {
  const bool near = panel_bytes * panels <= second_level_cache_bytes() * 3 / 4;
  return panel_bytes / (near ? kNearBytesPerCycle : kFarBytesPerCycle);
}

double step_cycles(const StepWork& work, Split split) {
  const double rows = std::max(1.0, std::ceil(work.rows / split.rows));
  const int64_t panels = (work.panels + split.units - 1) / split.units;
  const double panel =
      std::max(product_cycles(rows, work.vectors, work.tallest, work.K) + rows * work.row_cycles,
               streaming_cycles(work.panel_bytes, panels));
  return panels * panel + (split.units > 1 ? kBarrierCycles : 0);
}

}  // namespace

int64_t second_level_cache_bytes() {
  static const int64_t bytes = [] {
#ifdef _SC_LEVEL2_CACHE_SIZE
    const long size = sysconf(_SC_LEVEL2_CACHE_SIZE);
    if (size > 0) return static_cast<int64_t>(size);
#endif
    return int64_t{1} << 20;
  }();
  return bytes;
}

Schedule schedule_step(const StepWork& work, int threads) {
  Schedule best = {{1, 1}, step_cycles(work, {1, 1})};
  for (int units = 1; units <= threads && units <= work.panels; ++units) {
    for (int rows = 1; rows * units <= threads && rows <= std::max(1.0, work.rows); ++rows) {
      const double cycles = step_cycles(work, {rows, units});
      if (cycles < best.cycles) best = {{rows, units}, cycles};
    }
  }
  return best;
}

Schedule schedule_forward(const StepWork& hidden, int64_t input_features, int64_t input_panel_bytes,
                          int64_t projected_row_bytes, int threads) {
  const Schedule ahead = schedule_step(hidden, threads);
  if (input_features == 0) return ahead;
  const double ideal = input_features * hidden.vectors / kFmaPerCycle;  // cycles a row and panel
  const double traffic = 2.0 * projected_row_bytes / kNearBytesPerCycle;
  const double projection = hidden.rows * (hidden.panels * ideal + traffic);
  StepWork work = hidden;
  work.K += input_features;
  work.panel_bytes += input_panel_bytes;
  Schedule fused = schedule_step(work, threads);
  fused.fused = true;
  return fused.cycles <= ahead.cycles + projection / threads ? fused : ahead;
}

int64_t forward_block_rows(int64_t projected_row_bytes) {
  return std::clamp<int64_t>(second_level_cache_bytes() / 2 / projected_row_bytes, 64, 512);
}

int threads_worth(double cycles, int threads) {
  while (threads > 1 && cycles - cycles / threads < kTeamCycles) --threads;
  return threads;
}

}  // namespace fastrnn
