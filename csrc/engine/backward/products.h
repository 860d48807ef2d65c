// What follows from a block's d_pre: the gradients of the input and of the weights.
#pragma once

#include "pass.h"

namespace fastrnn {

template <class Real>
class BackwardProducts {
 public:
  using Job = typename BackwardPass<Real>::Job;
  using Block = typename BackwardPass<Real>::Block;

  explicit BackwardProducts(const BackwardPass<Real>& pass)
      : pass_(pass), batch_(pass.batch), shape_(pass.shape), panels_(pass.panels) {}

  void pack_block(const Job& job, const Block& block) const {
    const Real** rows = job.scratch.a;
    if (job.d_weights.w_ih) {
      each_row(block, [&](int64_t i, int64_t t, int64_t r) { rows[i] = job.x.at(t, r); });
      pass_.pack_rows(job, block.rows, job.in_features, job.dir.x, block.rows);
    }
    if (job.d_weights.w_hh) {
      each_row(block, [&](int64_t i, int64_t t, int64_t r) {
        rows[i] = pass_.state_before(job, kHidden, t, r);
      });
      pass_.pack_rows(job, block.rows, shape_.out(), job.dir.operands[0], block.rows);
      for (int i = 1; i < panels_.cell.stages; ++i)
        pack_saved(job, block, job.saved.operands[i], job.dir.operands[i]);
    }
    if (job.d_weights.w_hr) pack_saved(job, block, job.saved.raw, job.dir.raw);
  }

  void multiply_to_input(const Job& job, const Block& block) const {
    const Range all = {0, panels_.columns(job.in_features)};
    const Range mine =
        pass_.in_place ? Range{0, block.rows} : share(block.rows, job.crew.id, job.crew.size);
    each_row(block, [&](int64_t i, int64_t t, int64_t r) {
      if (i < mine.begin || i >= mine.end) return;
      job.scratch.a[i - mine.begin] = pass_.d_pre_of(job, block, t, r, pass_.input_slots());
      job.scratch.c[i - mine.begin] = job.d_x.at(t, r);
    });
    if (pass_.in_place) {
      return pass_.multiply_in_place(job, block.rows, job.weights.w_ih, pass_.input_slots(),
                                     share(all.end, job.crew.id, job.crew.size), job.in_features,
                                     false);
    }
    panels_.kernels.product(pass_.pre_product(job, mine.end - mine.begin, job.dir.w_ih,
                                              pass_.input_slots(), all, job.in_features, false));
  }

  void accumulate_weights(const Job& job, const Block& block) const {
    const Weights<Real>& d = job.d_weights;
    const auto weight = [&](Real* d_w, const Real* operand, int64_t n, Range slots) {
      if (!d_w) return;
      each_gate(job, slots, [&](const Real* from, int64_t rows, int64_t at) {
        panels_.kernels.outer({from, panels_.width, rows, block.rows, operand,
                               block.rows * panels_.column, 0, panels_.columns(n), d_w + at * n, n,
                               n, !block.first});
      });
    };
    const auto bias = [&](Real* d_b, int64_t slot) {
      if (!d_b) return;
      each_gate(job, {slot, slot + panels_.cell.gates},
                [&](const Real* from, int64_t rows, int64_t at) {
                  panels_.kernels.sum_rows(
                      {from, panels_.width, rows, block.rows, nullptr, 0, d_b + at, !block.first});
                });
    };
    weight(d.w_ih, job.dir.x, job.in_features, pass_.input_slots());
    for (int i = 0; i < panels_.cell.stages; ++i)
      weight(d.w_hh, job.dir.operands[i], shape_.operand_width(i), pass_.stage_slots(i));
    bias(d.b_ih, panels_.cell.input_slot);
    bias(d.b_hh, panels_.cell.hidden_slot);
    if (d.w_ch) accumulate_peepholes(job, block);
    if (d.w_hr) {
      const Range mine = share(panels_.columns(shape_.H), job.crew.id, job.crew.size);
      panels_.kernels.outer({job.dir.d_y, panels_.padded(shape_.P), shape_.P, block.rows,
                             job.dir.raw + mine.begin * block.rows * panels_.column,
                             block.rows * panels_.column, mine.begin, mine.end, d.w_hr, shape_.H,
                             shape_.H, !block.first});
    }
  }

 private:
  // A block's rows of [rows][H] in column panels
  void pack_saved(const Job& job, const Block& block, const Real* saved, Real* to) const {
    for (int64_t i = 0; i < block.rows; ++i)
      job.scratch.a[i] = saved + (block.start + i) * shape_.H;
    pass_.pack_rows(job, block.rows, shape_.H, to, block.rows);
  }

  template <class Visit>
  void each_row(const Block& block, Visit visit) const {
    int64_t i = 0;
    for (int64_t t = block.begin; t < block.end; ++t) {
      for (int64_t r = 0; r < batch_.active(t); ++r) visit(i++, t, r);
    }
  }

  // Calls visit(d_pre, rows, at) for this thread's share of the slots' units: a panel's gradients,
  // how many units it has, and where their rows stand in a weight matrix.
  template <class Visit>
  void each_gate(const Job& job, Range slots, Visit visit) const {
    const int64_t count = slots.end - slots.begin;
    const Range mine = share(panels_.gates * count, job.crew.id, job.crew.size);
    for (int64_t i = mine.begin; i < mine.end; ++i) {
      const int64_t panel = i / count, s = slots.begin + i % count;
      const int64_t unit = panel * panels_.unit;
      visit(job.dir.d_pre + panel * pass_.d_pre_panel() + pass_.slot_at(panel, s),
            panels_.units_of(panel), panels_.cell.gate_of_slot[s] * shape_.H + unit);
    }
  }

  // i, f and g have seen the cell state of before, o the new one.
  void accumulate_peepholes(const Job& job, const Block& block) const {
    constexpr int kCell = 1;
    const Real** c_prev = job.scratch.a;
    const Real** c = job.scratch.b;
    each_row(block, [&](int64_t i, int64_t t, int64_t r) {
      c_prev[i] = pass_.state_before(job, kCell, t, r);
      c[i] = job.states[kCell].at(t, r);
    });
    constexpr int64_t kOutput = 3;
    for (int64_t s = 0; s <= kOutput; ++s) {
      const int block_of_w = shape_.variant.peephole[s];
      if (block_of_w < 0) continue;
      each_gate(job, {s, s + 1}, [&](const Real* from, int64_t rows, int64_t at) {
        const int64_t unit = at - s * shape_.H;
        panels_.kernels.sum_rows({from, panels_.width, rows, block.rows, s == kOutput ? c : c_prev,
                                  unit, job.d_weights.w_ch + block_of_w * shape_.H + unit,
                                  !block.first});
      });
    }
  }

  const BackwardPass<Real>& pass_;
  const Batch& batch_;
  const Shape& shape_;
  const Panels<Real>& panels_;
};

}  // namespace fastrnn
