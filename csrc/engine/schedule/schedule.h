// The cost model: cycles of a step from its sizes, the threads and the machine (machine.h). It
// changes speed only, never a result.
#pragma once

#include <cstdint>

namespace fastrnn {

// A crew's split of a recurrence: `rows` groups of batch rows, which never meet, times `units`
// groups of hidden units, which meet at a barrier every step. rows * units <= the crew's size; the
// rest of the crew does what else there is to do.
struct Split {
  int rows = 1;
  int units = 1;
  bool deals = false;  // panels that the groups of units cannot share evenly are dealt out by rows
  int threads() const { return rows * units; }
};

// One step of one direction as the model sees it.
struct StepWork {
  double rows;          // active rows, on average
  int64_t panels;       // panels of units
  int vectors;          // vectors in a row of a panel
  int tallest;          // rows of the tallest tile
  int64_t K;            // length of the product
  int64_t panel_bytes;  // of weights that the product reads
  double row_cycles;    // equations, for one row of one panel
  bool deals = false;   // can it deal panels out by rows?
  int crews = 1;        // that do the like side by side, each with weights of its own
  double packed = 0;    // bytes of a panel that are packed for the call, for each of its steps
  bool meets = true;    // do those who share units wait for one another?
};

struct Schedule {
  Split split;
  double cycles;       // of one step
  double far = 0;      // those in which weights come from beyond the second-level cache
  bool fused = false;  // the input is projected within the step, not ahead for a time block
  double instead = 0;  // cycles and far ones if it were the other way; 0: there is none
  double barrier = 0;  // cycles until those who share units have met, which are in `cycles`
};

Schedule schedule_step(const StepWork& work, int threads);

// The same for a step whose input has to be projected, in the cheaper way and with its cycles;
// panel_row_bytes: of weights that one feature meets in one panel.
Schedule schedule_forward(const StepWork& hidden, int64_t input_features, int64_t panel_row_bytes,
                          int threads);

// Is it worth it for one thread to compute rows that another one needs at once, each of so many
// vectors and bytes, from so many features?
bool worth_sharing(int64_t features, double vectors, double bytes);

// Are two directions better taken in turn by all threads, which have the caches to themselves then,
// than side by side by half of them each, with fewer barriers? What a barrier costs may change in
// the course of a call, so it has to be worth the highest price.
bool better_in_turn(const Schedule& in_turn, const Schedule& side_by_side);

// Rows of a time block: enough to use a panel often while it is in cache, few enough that what is
// computed ahead stays there; many where there are many features, so that their weights come
// seldom, or where a step's weights outgrow every cache.
int64_t forward_block_rows(int64_t projected_row_bytes, int64_t features, int64_t weight_bytes);

// Threads worth waking for a call of so many cycles on one thread.
int threads_worth(double cycles, int threads);

}  // namespace fastrnn
