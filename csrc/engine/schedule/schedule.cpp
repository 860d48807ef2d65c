#include "schedule.h"

#include <algorithm>
#include <cmath>
#include <fstream>

namespace fastrnn {
namespace {

// Properties of current x86 and Arm server cores, in cycles and bytes. Rough on purpose: the
// choices they decide are wide apart except near the borders, where either choice is good.
constexpr double kFmaPerCycle = 2;
constexpr double kFmaLatency = 4;
constexpr double kNearBytesPerCycle = 40;    // second-level cache
constexpr double kFarBytesPerCycle = 24;     // third-level cache
constexpr double kMemoryBytesPerCycle = 12;  // beyond it
constexpr double kTileCycles = 60;           // starting and emptying a tile
constexpr double kBarrierCycles = 600;
constexpr double kTeamCycles = 40000;  // waking the threads of a call, and the risk of waiting

// What Linux says of the first core's cache, in KiB there, or a usual size. (sysconf counts the
// third level of a whole socket on some processors, not what a core reaches of it.)
int64_t cache_bytes(const char* path, int64_t usual) {
  int64_t size = 0;
  std::ifstream(path) >> size;
  return size > 0 ? size << 10 : usual;
}

const int64_t kSecondLevelBytes =
    cache_bytes("/sys/devices/system/cpu/cpu0/cache/index2/size", int64_t{1} << 20);
const int64_t kThirdLevelBytes =
    cache_bytes("/sys/devices/system/cpu/cpu0/cache/index3/size", int64_t{32} << 20);

// As much of a cache as weights may take
const int64_t kNearBytes = kSecondLevelBytes * 3 / 4;
const int64_t kFarBytes = kThirdLevelBytes * 2 / 3;

// Until the weights of a panel have come, on average, if each thread reads `panels` of them to and
// fro and so finds the last few in its second-level cache still. Groups of rows read the same ones
// and get in one another's way beyond: the third level keeps what leaves a second level, once for
// each.
double arrival_cycles(const StepWork& work, int64_t panels, Split split) {
  const int64_t each = work.panel_bytes * panels;
  const double near = std::min(1.0, static_cast<double>(kNearBytes) / each);
  const bool far = each * split.threads() * work.crews <= kFarBytes;
  const double rate = (far ? kFarBytesPerCycle : kMemoryBytesPerCycle) / split.rows;
  return work.panel_bytes * (near / kNearBytesPerCycle + (1 - near) / rate);
}

// The first tile of a panel is no faster than its weights come; the others find them near.
double panel_cycles(const StepWork& work, double rows, double arrival) {
  const double tiles = std::ceil(rows / work.tallest);
  const double multiplied = std::max(rows / tiles * work.vectors / kFmaPerCycle, kFmaLatency);
  const double tile = work.K * multiplied + kTileCycles;
  return std::max(tile, arrival) + (tiles - 1) * tile + rows * work.row_cycles;
}

Schedule price(const StepWork& work, Split split) {
  const double rows = std::max(1.0, std::ceil(work.rows / split.rows));
  const int64_t even = work.panels / split.units, left_over = work.panels % split.units;
  const int64_t most = even + (left_over > 0);
  const double arrival = arrival_cycles(work, most, split);
  const double panel = panel_cycles(work, rows, arrival);
  const double dealt =
      even * panel + left_over * panel_cycles(work, std::ceil(rows / split.units), arrival);
  split.deals = work.deals && dealt < most * panel;
  return {split, (split.deals ? dealt : most * panel) + (split.units > 1 ? kBarrierCycles : 0)};
}

}  // namespace

Schedule schedule_step(const StepWork& work, int threads) {
  Schedule best = price(work, {1, 1});
  for (int units = 1; units <= threads && units <= work.panels; ++units) {
    for (int rows = 1; rows * units <= threads && rows <= std::max(1.0, work.rows); ++rows) {
      const Schedule found = price(work, {rows, units});
      if (found.cycles < best.cycles) best = found;
    }
  }
  return best;
}

Schedule schedule_forward(const StepWork& hidden, int64_t input_features, int64_t panel_row_bytes,
                          int threads) {
  Schedule ahead = schedule_step(hidden, threads);
  if (input_features == 0) return ahead;
  StepWork whole = hidden;
  whole.K += input_features;
  whole.panel_bytes += input_features * panel_row_bytes;
  Schedule fused = schedule_step(whole, threads);
  fused.fused = true;

  const int64_t weight_bytes = hidden.panels * whole.panel_bytes * hidden.crews;
  StepWork block = hidden;
  block.rows =
      static_cast<double>(forward_block_rows(hidden.panels * panel_row_bytes, weight_bytes));
  block.K = input_features;
  block.panel_bytes = input_features * panel_row_bytes;
  // What is projected is fetched, written and read again.
  block.row_cycles =
      3 * panel_row_bytes / (weight_bytes <= kFarBytes ? kNearBytesPerCycle : kFarBytesPerCycle);
  ahead.cycles += schedule_step(block, threads).cycles * hidden.rows / block.rows;
  return fused.cycles <= ahead.cycles ? fused : ahead;
}

bool better_in_turn(const Schedule& in_turn, const Schedule& side_by_side) {
  const double doubt = in_turn.split.units > 1 ? 3 * kBarrierCycles : 0;
  return 2 * (in_turn.cycles + doubt) < side_by_side.cycles;
}

int64_t forward_block_rows(int64_t projected_row_bytes, int64_t weight_bytes) {
  const int64_t short_room = kSecondLevelBytes / 2;
  const int64_t room =
      weight_bytes <= kFarBytes ? short_room : std::max(short_room, kThirdLevelBytes / 4);
  return std::clamp<int64_t>(room / projected_row_bytes, 64, 512);
}

int threads_worth(double cycles, int threads) {
  while (threads > 1 && cycles - cycles / threads < kTeamCycles) --threads;
  return threads;
}

}  // namespace fastrnn
