// What a call does and why: decided here, once, before its threads start. The passes only read it,
// and `python -m fastrnn explain` prints it.
#pragma once

#include "engine/call/plan.h"
#include "schedule.h"

namespace fastrnn {

enum class Reason {
  kNoChoice,     // there is one way only
  kWeightsOnce,  // each weight is used once, so nothing is gained by keeping it in a cache
  kFewRows,      // nor is it with the few rows, of all steps together, that meet the weights
  kCycles,       // the cost model found the other way more expensive
};

// For or against something, with the cycles that the cost model gives a step as chosen and as not.
struct Choice {
  bool yes = false;
  Reason reason = Reason::kNoChoice;
  double cycles = 0;  // 0: it was not asked
  double instead = 0;
};

// How the threads of a crew take the steps of one direction.
struct CrewDecision {
  int threads = 1;
  Split split;         // of those that take steps
  double cycles = 0;   // of a step, as the model sees it; 0: it was not asked
  double barrier = 0;  // those until who shares units has met

  // Forward alone
  Choice fused;              // is the input projected within the step, not ahead for a block?
  int64_t block_rows = 0;    // ahead: rows of a block, for each group of rows
  int64_t helped_steps = 0;  // steps of a block that threads without a part in the recurrence
                             // project while the others take those before it; 0: they do not
  int64_t piece_steps = 0;   // of which they take so many at a time
};

struct LayerDecision {
  Choice side_by_side;  // do two crews take a direction each, or one both in turn?
  CrewDecision crew[2];
  int crews() const { return side_by_side.yes ? 2 : 1; }
  const CrewDecision& of(int64_t direction) const { return crew[side_by_side.yes ? direction : 0]; }
};

// The layers above the first one have inputs of the same size, and so the same decision.
struct PassDecision {
  LayerDecision first, above;
  const LayerDecision& layer(int64_t layer) const { return layer == 0 ? first : above; }
};

// For a team of `size` threads
PassDecision decide_forward(const Plan& plan, int size);
PassDecision decide_backward(const Plan& plan, int size);

// Of what memory depends on, before there is a team: sets the fields of the plan that say so.
void decide_layout(Plan& plan, int offered);

}  // namespace fastrnn
