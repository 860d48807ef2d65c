#include "centre.h"

#include <algorithm>

#include "engine/call/plan.h"
#include "engine/schedule/machine.h"
#include "engine/schedule/schedule.h"
#include "engine/team/processors.h"
#include "engine/team/team.h"

namespace fastrnn {
namespace {

// Bytes of a row that are taken together: with all of its rows such a strip stays in the
// second-level cache from the sums to the differences.
constexpr int64_t kStripBytes = 256;

class Centring {
 public:
  Centring(const std::vector<CentredMatrix>& matrices, int64_t groups, const KernelTable& kernels)
      : matrices_(matrices), groups_(groups), kernels_(kernels) {}

  void prepare(int) {}

  // A share of the strips of all matrices
  void operator()(int id, int size) const {
    int64_t all = 0;
    for (const CentredMatrix& own : matrices_) all += strips(own) * groups_;
    Range mine = share(all, id, size);
    for (const CentredMatrix& own : matrices_) {
      const int64_t here = strips(own) * groups_;
      for (int64_t i = std::max<int64_t>(0, mine.begin); i < std::min(here, mine.end); ++i)
        with_dtype(own.dtype, [&](auto zero) { take<decltype(zero)>(own, i); });
      mine = {mine.begin - here, mine.end - here};
    }
  }

 private:
  static int64_t width(DType dtype) { return kStripBytes / (dtype == DType::kFloat32 ? 4 : 8); }
  static int64_t strips(const CentredMatrix& own) {
    return (own.columns + width(own.dtype) - 1) / width(own.dtype);
  }

  template <class Real>
  void take(const CentredMatrix& own, int64_t strip) const {
    const int64_t rows = own.rows / groups_, first = strip / groups_ * width(own.dtype);
    const int64_t at = strip % groups_ * rows * own.columns + first;
    kernels_in<Real>(kernels_).centre({static_cast<const Real*>(own.from) + at, own.columns, rows,
                                       std::min(width(own.dtype), own.columns - first),
                                       static_cast<Real*>(own.to) + at});
  }

  const std::vector<CentredMatrix>& matrices_;
  const int64_t groups_;
  const KernelTable& kernels_;
};

}  // namespace

void centre(const std::vector<CentredMatrix>& matrices, int64_t groups, int threads,
            const KernelTable& kernels) {
  double elements = 0;
  for (const CentredMatrix& own : matrices)
    elements += static_cast<double>(own.rows) * static_cast<double>(own.columns);
  Centring work(matrices, groups, kernels);
  run_team(threads_worth(elements * kCentringCycles, std::min(threads, usable_processors())), work);
}

}  // namespace fastrnn
