#include "schedule.h"

#include <algorithm>
#include <cmath>

#include "engine/team/distance.h"
#include "machine.h"

namespace fastrnn {
namespace {

// From the second-level cache and from beyond it, in cycles
struct Arrival {
  double near, far;
  double all() const { return near + far; }
};

// Until the weights of a panel have come, on average, if each thread reads `panels` of them to and
// fro and so finds the last few in its second-level cache still. Groups of rows read the same ones
// and get in one another's way beyond: the third level keeps what leaves a second level, once for
// each.
Arrival arrival_cycles(const StepWork& work, int64_t panels, Split split) {
  const int64_t each = work.panel_bytes * panels;
  if (each == 0) return {};
  const double near = std::min(1.0, static_cast<double>(caches().near()) / each);
  const bool far = each * split.threads() * work.crews <= caches().far();
  const double rate = (far ? kFarBytesPerCycle : kMemoryBytesPerCycle) / split.rows;
  return {work.panel_bytes * near / kNearBytesPerCycle, work.panel_bytes * (1 - near) / rate};
}

// The first tile of a panel is no faster than its weights come; the others find them near.
double panel_cycles(const StepWork& work, double rows, double arrival) {
  const double tiles = std::ceil(rows / work.tallest);
  const double multiplied = std::max(rows / tiles * work.vectors / kFmaPerCycle, kFmaLatency);
  const double tile = work.K * multiplied + kTileCycles;
  return std::max(tile, arrival) + (tiles - 1) * tile + rows * work.row_cycles;
}

// A barrier of so many threads, each of whose signals takes so many nanoseconds
double barrier_cycles(int threads, double signal) {
  if (threads == 1) return 0;
  return (std::ceil(std::log2(threads)) + kSignalsOfLines) * signal / kNanosecondsOfCycle;
}

// Until what another thread has written has come, of so many bytes
double transfer_cycles(double bytes, double signal) {
  return bytes / 64 * signal / kNanosecondsOfCycle / kLinesAtOnce;
}

Schedule price(const StepWork& work, Split split, double signal) {
  const double rows = std::max(1.0, std::ceil(work.rows / split.rows));
  const int64_t even = work.panels / split.units, left_over = work.panels % split.units;
  const int64_t most = even + (left_over > 0);
  const Arrival arrival = arrival_cycles(work, most, split);
  const double panel = panel_cycles(work, rows, arrival.all());
  const double dealt =
      even * panel + left_over * panel_cycles(work, std::ceil(rows / split.units), arrival.all());
  split.deals = work.deals && dealt < most * panel;
  Schedule found = {split, split.deals ? dealt : most * panel, most * arrival.far};
  found.barrier = work.meets ? barrier_cycles(split.units, signal) : 0;
  // Groups of rows each need what the others have packed.
  const double from_others = most * work.packed * (split.rows - 1) / split.rows;
  found.cycles += found.barrier + transfer_cycles(from_others, signal);
  return found;
}

}  // namespace

Schedule schedule_step(const StepWork& work, int threads) {
  const double signal = signal_nanoseconds();
  Schedule best = price(work, {1, 1}, signal);
  for (int units = 1; units <= threads && units <= work.panels; ++units) {
    for (int rows = 1; rows * units <= threads && rows <= std::max(1.0, work.rows); ++rows) {
      const Schedule found = price(work, {rows, units}, signal);
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
  block.rows = static_cast<double>(
      forward_block_rows(hidden.panels * panel_row_bytes, input_features, weight_bytes));
  block.K = input_features;
  block.panel_bytes = input_features * panel_row_bytes;
  block.row_cycles = kTimesProjectedMoves * panel_row_bytes /
                     (weight_bytes <= caches().far() ? kNearBytesPerCycle : kFarBytesPerCycle);
  ahead.cycles += schedule_step(block, threads).cycles * hidden.rows / block.rows;
  fused.instead = ahead.cycles + ahead.far;
  ahead.instead = fused.cycles + fused.far;
  // What comes from afar at every step is never hidden wholly, and a block reads its weights once.
  return ahead.instead <= fused.instead ? fused : ahead;
}

bool worth_sharing(int64_t features, double vectors, double bytes) {
  return static_cast<double>(features) * vectors / kFmaPerCycle >
         transfer_cycles(bytes, signal_nanoseconds());
}

bool better_in_turn(const Schedule& in_turn, const Schedule& side_by_side) {
  const double doubt = barrier_cycles(in_turn.split.units, kDearestSignal * kUsualSignal);
  return 2 * (in_turn.cycles + doubt) < side_by_side.cycles;
}

int64_t forward_block_rows(int64_t projected_row_bytes, int64_t features, int64_t weight_bytes) {
  const int64_t short_room = caches().second_level / 2;
  const int64_t room =
      weight_bytes <= caches().far() ? short_room : std::max(short_room, caches().third_level / 4);
  const int64_t row_bytes = std::max<int64_t>(1, projected_row_bytes);  // 0: nothing is projected
  // From so many rows on they are more to move than the weights of their features.
  const auto worth_the_weights = static_cast<int64_t>(features / kTimesProjectedMoves);
  return std::clamp(std::max(room / row_bytes, worth_the_weights), kLeastBlockRows, kMostBlockRows);
}

int threads_worth(double cycles, int threads) {
  while (threads > 1 && cycles - cycles / threads < kTeamCycles) --threads;
  return threads;
}

}  // namespace fastrnn
