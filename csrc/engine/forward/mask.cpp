#include "mask.h"

#include <algorithm>

#include "engine/call/plan.h"
#include "engine/schedule/machine.h"
#include "engine/schedule/schedule.h"
#include "engine/team/processors.h"
#include "engine/team/team.h"

namespace fastrnn {
namespace {

class Drawing {
 public:
  Drawing(const DrawnMask& mask, const KernelTable& kernels) : mask_(mask), kernels_(kernels) {}

  void prepare(int) {}

  void operator()(int id, int size) const {
    const Range mine = share(mask_.count, id, size);
    with_dtype(mask_.dtype, [&](auto zero) {
      typedef decltype(zero) Real;
      kernels_in<Real>(kernels_).mask(
          {mask_.numbers + mine.begin, mine.end - mine.begin, static_cast<int16_t>(mask_.limit),
           static_cast<Real>(mask_.value), static_cast<Real*>(mask_.to) + mine.begin});
    });
  }

 private:
  const DrawnMask& mask_;
  const KernelTable& kernels_;
};

}  // namespace

void draw(const DrawnMask& mask, int threads, const KernelTable& kernels) {
  Drawing work(mask, kernels);
  const double cycles = static_cast<double>(mask.count) * kDrawingCycles;
  run_team(threads_worth(cycles, std::min(threads, usable_processors())), work);
}

}  // namespace fastrnn
