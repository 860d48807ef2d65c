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
    const Range mine = part_of(job, panels_.gates);
    if (!is_plain()) return into_format(job).pack_gates(mine, job.scratch.w_ih);
    const DirectionPacking<Real> own = of(job);
    const Range projected = helps(job) ? helpers_part(job, panels_.gates) : mine;
    own.pack_w_ih(projected, plain(pass_.w_ih_panel(job, projected.begin)),
                  elements(pass_.w_ih_slot(job)));
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
    own.pack_bias(part_of(job, panels_.gates), job.packed.bias);
    if (!shape_.P) return;
    const Range mine = part_of(job, panels_.columns(shape_.P));
    if (!is_plain()) return into_format(job).pack_projection(mine, job.scratch.w_ih);
    own.pack_w_hr(mine, plain(pass_.w_hr_panel(job, mine.begin)));
  }

  // Initial states within the cell
  void pack_states(const Job& job) const {
    const Range rows = part_of(job, batch_.B());
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      const int64_t at = job.index * batch_.B() + batch_.entry(r);
      for (int s = 1; s < panels_.cell.states; ++s) {
        copy_or_zero(shape_, s, pass_.args.initial[s], at, job.dir.initial[s] + r * panels_.units,
                     panels_.units);
      }
    }
  }

 private:
  // Where one thread alone takes the steps, what another had packed for it would have to come from
  // afar, which takes longer than packing it. Others pack what they project with.
  static Range part_of(const Job& job, int64_t n) {
    if (job.split.threads() > 1) return share(n, job.crew.id, job.crew.size);
    return {0, job.crew.id == 0 ? n : 0};
  }
  static bool helps(const Job& job) {
    return job.split.threads() == 1 && job.decision.helped_steps > 0;
  }
  static Range helpers_part(const Job& job, int64_t n) {
    if (job.crew.id == 0) return {0, 0};
    return share(n, job.crew.id - 1, job.crew.size - 1);
  }

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
