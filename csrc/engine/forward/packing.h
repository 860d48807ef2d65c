// Weights, biases and initial states in the order that the steps read them in.
#pragma once

#include "pass.h"

namespace fastrnn {

template <class Real>
class ForwardPacking {
 public:
  using Job = typename ForwardPass<Real>::Job;

  explicit ForwardPacking(const ForwardPass<Real>& pass)
      : pass_(pass), batch_(pass.batch), shape_(pass.shape), panels_(pass.panels) {}

  void pack_w_ih(const Job& job, Range panels, Real* to) const {
    const CellKernels<Real>& cell = panels_.cell;
    pack_gates(job.weights.w_ih, job.in_features, cell.input_slot, cell.gates, panels, to);
  }
  void pack_w_hh(const Job& job, int stage, Range panels, Real* to) const {
    const Stage<Real>& of = panels_.cell.stage[stage];
    pack_gates(job.weights.w_hh, shape_.operand_width(stage), of.slot, of.slots, panels, to);
  }

  void pack_weights(const Job& job) const {
    const Range mine = share(panels_.gates, job.crew.id, job.crew.size);
    pack_w_ih(job, mine, pass_.w_ih_panel(job, mine.begin));
    for (int i = 0; i < panels_.cell.stages; ++i)
      pack_w_hh(job, i, mine, pass_.w_hh_panel(job, i, mine.begin));
  }

  // What every way of running needs: bias, peepholes, projection, initial states within the cell
  void pack_small(const Job& job) const {
    const Range gates = share(panels_.gates, job.crew.id, job.crew.size);
    pack_bias(job, gates);
    if (shape_.variant.peepholes)
      panels_.pack_peepholes(shape_, job.weights.w_ch, gates, job.dir.peepholes);
    if (shape_.P) {
      const int gate = 0;
      const Range mine = share(panels_.columns(shape_.P), job.crew.id, job.crew.size);
      panels_.kernels.pack_gates({job.weights.w_hr, shape_.P, shape_.H, 1, &gate, panels_.column,
                                  pass_.w_hr_panel(job, mine.begin), mine.begin, mine.end});
    }
    const Range rows = share(batch_.B(), job.crew.id, job.crew.size);
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      const int64_t at = job.index * batch_.B() + batch_.entry(r);
      for (int s = 1; s < panels_.cell.states; ++s) {
        copy_or_zero(pass_.args.initial[s], at, shape_.H, job.dir.initial[s] + r * panels_.units,
                     panels_.units);
      }
    }
  }

 private:
  void pack_gates(const Real* w, int64_t K, int slot, int gates, Range panels, Real* to) const {
    panels_.kernels.pack_gates({w, shape_.H, K, gates, panels_.cell.gate_of_slot + slot,
                                panels_.unit, to, panels.begin, panels.end});
  }

  // Each slot starts from the bias of every product that it takes part in.
  void pack_bias(const Job& job, Range mine) const {
    const CellKernels<Real>& cell = panels_.cell;
    Real* to = job.dir.bias + mine.begin * panels_.width;
    for (int64_t panel = mine.begin; panel < mine.end; ++panel) {
      for (int s = 0; s < cell.slots; ++s) {
        const bool from_input = s >= cell.input_slot && s < cell.input_slot + cell.gates;
        const bool from_hidden = s >= cell.hidden_slot && s < cell.hidden_slot + cell.gates;
        for (int64_t j = 0; j < panels_.unit; ++j, ++to) {
          const int64_t unit = panel * panels_.unit + j;
          const int64_t at = cell.gate_of_slot[s] * shape_.H + unit;
          *to = 0;
          if (unit >= shape_.H || !shape_.bias) continue;
          if (from_input) *to += job.weights.b_ih[at];
          if (from_hidden) *to += job.weights.b_hh[at];
        }
      }
    }
  }

  const ForwardPass<Real>& pass_;
  const Batch& batch_;
  const Shape& shape_;
  const Panels<Real>& panels_;
};

}  // namespace fastrnn
