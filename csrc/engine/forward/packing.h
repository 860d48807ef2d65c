// What a call brings, in the order that the steps read it in: weights, biases, initial states.
#pragma once

#include <algorithm>

#include "pass.h"

namespace fastrnn {

template <class Real>
class ForwardPacking {
 public:
  using Job = typename ForwardPass<Real>::Job;

  explicit ForwardPacking(const ForwardPass<Real>& pass)
      : pass_(pass), batch_(pass.batch), shape_(pass.shape), panels_(pass.panels) {}

  // Of calls that bring their weights: into the workspace, or for a single step one panel at a time
  // into the thread's own room.
  void pack_weights(const Job& job) const {
    const Range mine = share(panels_.gates, job.crew.id, job.crew.size);
    if (!is_plain()) return into_format(job).pack_gates(mine, job.scratch.w_ih);
    const DirectionPacking<Real> own = of(job);
    own.pack_w_ih(mine, plain(pass_.w_ih_panel(job, mine.begin)), elements(pass_.w_ih_slot(job)));
    for (int i = 0; i < panels_.cell.products; ++i)
      own.pack_w_hh(i, mine, plain(pass_.w_hh_panel(job, i, mine.begin)),
                    elements(pass_.w_hh_slot(i)));
  }
  void pack_panel(const Job& job, int64_t panel, int64_t hidden_length) const {
    const DirectionPacking<Real> own = of(job);
    const Range one = {panel, panel + 1};
    own.pack_w_ih(one, job.scratch.w_ih, job.in_features * panels_.unit);
    if (hidden_length > 0) own.pack_w_hh(0, one, job.scratch.w_hh, hidden_length * panels_.unit);
  }

  // What every way of running needs beside: bias, projection
  void pack_small(const Job& job) const {
    const DirectionPacking<Real> own = of(job);
    own.pack_bias(share(panels_.gates, job.crew.id, job.crew.size), job.packed.bias);
    if (!shape_.P) return;
    const Range mine = share(panels_.columns(shape_.P), job.crew.id, job.crew.size);
    if (!is_plain()) return into_format(job).pack_projection(mine, job.scratch.w_ih);
    own.pack_w_hr(mine, plain(pass_.w_hr_panel(job, mine.begin)));
  }

  // Initial states within the cell
  void pack_states(const Job& job) const {
    const Range rows = share(batch_.B(), job.crew.id, job.crew.size);
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      const int64_t at = job.index * batch_.B() + batch_.entry(r);
      for (int s = 1; s < panels_.cell.states; ++s) {
        copy_or_zero(shape_, s, pass_.args.initial[s], at, job.dir.initial[s] + r * panels_.units,
                     panels_.units);
      }
    }
  }

 private:
  DirectionPacking<Real> of(const Job& job) const {
    return {shape_, panels_, *job.weights, job.in_features};
  }
  bool is_plain() const { return pass_.plan.format == Format::kPlain; }
  FormatPacking<Real> into_format(const Job& job) const {
    return {shape_, panels_, *job.weights, job.in_features, job.packed};
  }
  static Real* plain(char* panels) { return reinterpret_cast<Real*>(panels); }
  static int64_t elements(int64_t bytes) { return bytes / static_cast<int64_t>(sizeof(Real)); }

  const ForwardPass<Real>& pass_;
  const Batch& batch_;
  const Shape& shape_;
  const Panels<Real>& panels_;
};

}  // namespace fastrnn
