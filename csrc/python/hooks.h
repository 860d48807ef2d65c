// What _core lends to the module of the tests (csrc/testing): functions of the very engine that
// runs, whose processors, crowd and instruction set a second copy would not share. They pass in a
// capsule, since symbols are hidden, and since macOS links no module to another.
#pragma once

#include <cstdint>
#include <string>

#include "engine/kernels/kernels.h"
#include "engine/schedule/schedule.h"

namespace fastrnn {

struct Hooks {
  int64_t bytes;  // kHooksBytes of the sources that this was built from
  const KernelTable& (*kernels_of)(const std::string& isa);
  Schedule (*schedule_step)(const StepWork& work, int threads);
  Schedule (*schedule_forward)(const StepWork& hidden, int64_t input_features,
                               int64_t panel_row_bytes, int threads);
  bool (*better_in_turn)(const Schedule& in_turn, const Schedule& side_by_side);
  int (*threads_worth)(double cycles, int threads);
  int64_t (*forward_block_rows)(int64_t projected_row_bytes, int64_t features,
                                int64_t weight_bytes);
  double (*processor_quota)(const std::string& root);
  void (*pretend_processors)(int count);
  void (*pretend_crowded)(int waits);
  void (*pretend_signal)(double nanoseconds);
  void (*pretend_no_openmp)(bool none);
};

constexpr char kHooksName[] = "fastrnn._core.hooks";
constexpr int64_t kHooksBytes =
    sizeof(Hooks) + sizeof(KernelTable) + sizeof(StepWork) + sizeof(Schedule);

}  // namespace fastrnn
