// Weights, biases and initial states in the order that the steps read them in.
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

  // By slot, each slot's panels begin `slot_stride` elements after those of the one before.
  void pack_w_ih(const Job& job, Range panels, Real* to, int64_t slot_stride) const {
    pack_gates(job.weights.w_ih, shape_.H, job.in_features, panels_.cell.input, panels, to,
               slot_stride);
  }
  void pack_w_hh(const Job& job, int product, Range panels, Real* to, int64_t slot_stride) const {
    const Slots& slots = panels_.cell.product[product];
    if (shape_.program && shape_.program->heads > 1)
      return pack_heads(job.weights.w_hh, slots, panels, to, slot_stride);
    pack_gates(job.weights.w_hh, shape_.H, shape_.operand_width(product), slots, panels, to,
               slot_stride);
  }

  void pack_weights(const Job& job) const {
    const Range mine = share(panels_.gates, job.crew.id, job.crew.size);
    pack_w_ih(job, mine, pass_.w_ih_panel(job, mine.begin), pass_.w_ih_slot(job));
    for (int i = 0; i < panels_.cell.products; ++i)
      pack_w_hh(job, i, mine, pass_.w_hh_panel(job, i, mine.begin), pass_.w_hh_slot(i));
  }

  // What every way of running needs: bias, projection, initial states within the cell
  void pack_small(const Job& job) const {
    pack_bias(job, share(panels_.gates, job.crew.id, job.crew.size));
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
        copy_or_zero(shape_, s, pass_.args.initial[s], at, job.dir.initial[s] + r * panels_.units,
                     panels_.units);
      }
    }
  }

 private:
  void pack_gates(const Real* w, int64_t H, int64_t K, const Slots& slots, Range panels, Real* to,
                  int64_t slot_stride) const {
    const int* gates = panels_.cell.gate_of_slot + slots.first;
    if (!panels_.cell.by_slot) {
      panels_.kernels.pack_gates(
          {w, H, K, slots.count, gates, panels_.unit, to, panels.begin, panels.end});
      return;
    }
    for (int s = 0; s < slots.count; ++s) {
      panels_.kernels.pack_gates(
          {w, H, K, 1, gates + s, panels_.unit, to + s * slot_stride, panels.begin, panels.end});
    }
  }

  // Weights [heads, gates * H / heads, H / heads]: a panel meets what belongs to the heads of its
  // units, and zeros where it has more than one.
  void pack_heads(const Real* w, const Slots& slots, Range panels, Real* to,
                  int64_t slot_stride) const {
    const int64_t of_head = shape_.H / shape_.program->heads, unit = panels_.unit;
    const int64_t length = panels_.panel_length(shape_, 0);
    for (int s = 0; s < slots.count; ++s) {
      const int64_t gate = panels_.cell.gate_of_slot[slots.first + s];
      Real* panel = to + s * slot_stride;
      for (int64_t i = panels.begin; i < panels.end; ++i, panel += length * unit) {
        std::fill_n(panel, length * unit, Real{0});
        const int64_t first = i * unit, begin = first / of_head * of_head;
        for (int64_t u = first; u < std::min(first + unit, shape_.H); ++u) {
          const int64_t head = u / of_head, row = (head * panels_.cell.gates + gate) * of_head;
          const Real* from = w + (row + u % of_head) * of_head;
          Real* column = panel + (head * of_head - begin) * unit + u - first;
          for (int64_t k = 0; k < of_head; ++k) column[k * unit] = from[k];
        }
      }
    }
  }

  // Each slot starts from the bias of every product that it takes part in.
  void pack_bias(const Job& job, Range mine) const {
    const CellKernels<Real>& cell = panels_.cell;
    Real* to = job.dir.bias + mine.begin * panels_.width;
    for (int64_t panel = mine.begin; panel < mine.end; ++panel) {
      for (int s = 0; s < cell.slots; ++s) {
        const bool from_input = has(cell.input, s) && job.weights.b_ih;
        const bool from_hidden =
            job.weights.b_hh && std::any_of(cell.product, cell.product + cell.products,
                                            [&](const Slots& own) { return has(own, s); });
        for (int64_t j = 0; j < panels_.unit; ++j, ++to) {
          const int64_t unit = panel * panels_.unit + j;
          const int64_t at = cell.gate_of_slot[s] * shape_.H + unit;
          *to = 0;
          if (unit >= shape_.H) continue;
          if (from_input) *to += job.weights.b_ih[at];
          if (from_hidden) *to += job.weights.b_hh[at];
        }
      }
    }
  }

  static bool has(const Slots& slots, int s) {
    return s >= slots.first && s < slots.first + slots.count;
  }

  const ForwardPass<Real>& pass_;
  const Batch& batch_;
  const Shape& shape_;
  const Panels<Real>& panels_;
};

}  // namespace fastrnn
