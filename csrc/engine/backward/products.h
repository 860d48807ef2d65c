// What follows from a block's d_pre: the gradients of the input and of the weights.
#pragma once

#include <algorithm>

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
      if (panels_.cell.product[0].count > 0) pack_operand(job, block, job.dir.operands[0]);
      for (int i = 1; i < panels_.cell.products; ++i) {
        list_saved(job, block, job.saved.operands[i]);
        pack_operand(job, block, job.dir.operands[i]);
      }
    }
    if (job.d_weights.w_hr) {
      list_saved(job, block, job.saved.raw);
      pass_.pack_rows(job, block.rows, shape_.H, job.dir.raw, block.rows);
    }
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
        panels_.kernels.outer({from, panels_.d_width, rows, block.rows, operand,
                               block.rows * panels_.column, 0, panels_.columns(n), d_w + at * n, n,
                               n, !block.first});
      });
    };
    const auto bias = [&](Real* d_b, Range slots) {
      if (!d_b) return;
      each_gate(job, slots, [&](const Real* from, int64_t rows, int64_t at) {
        panels_.kernels.sum_rows({from, panels_.d_width, rows, block.rows, d_b + at, !block.first});
      });
    };
    if (shape_.program && block.first && job.crew.id == 0) clear_unmet(job);
    weight(d.w_ih, job.dir.x, job.in_features, pass_.input_slots());
    bias(d.b_ih, pass_.input_slots());
    for (int i = 0; i < panels_.cell.products; ++i) {
      if (shape_.heads > 1 && d.w_hh) {
        accumulate_heads(job, block, i);
      } else {
        weight(d.w_hh, job.dir.operands[i], shape_.operand_width(i), pass_.product_slots(i));
      }
      bias(d.b_hh, pass_.product_slots(i));
    }
    if (d.w_ch) accumulate_vectors(job, block);
    if (d.w_hr) {
      const Range mine = share(panels_.columns(shape_.H), job.crew.id, job.crew.size);
      panels_.kernels.outer({job.dir.d_y, panels_.padded(shape_.P), shape_.P, block.rows,
                             job.dir.raw + mine.begin * block.rows * panels_.column,
                             block.rows * panels_.column, mine.begin, mine.end, d.w_hr, shape_.H,
                             shape_.H, !block.first});
    }
  }

 private:
  // A block's rows of [rows][H]
  void list_saved(const Job& job, const Block& block, const Real* saved) const {
    for (int64_t i = 0; i < block.rows; ++i)
      job.scratch.a[i] = saved + (block.start + i) * shape_.H;
  }

  // The listed rows in column panels, head by head
  void pack_operand(const Job& job, const Block& block, Real* to) const {
    if (shape_.heads == 1) return pass_.pack_rows(job, block.rows, shape_.out(), to, block.rows);
    const int64_t of_head = shape_.of_head();
    for (int64_t head = 0; head < shape_.heads; ++head) {
      pass_.pack_rows(job, block.rows, of_head, to, block.rows);
      for (int64_t i = 0; i < block.rows; ++i) job.scratch.a[i] += of_head;
      to += block.rows * panels_.padded(of_head);
    }
  }

  // Gates that the program does not read have no slots, and so no gradient.
  void clear_unmet(const Job& job) const {
    const CellKernels<Real>& cell = panels_.cell;
    const auto met = [&](int gate, const Slots* slots, int count) {
      return std::any_of(slots, slots + count, [&](const Slots& own) {
        const int* first = cell.gate_of_slot + own.first;
        return std::find(first, first + own.count, gate) != first + own.count;
      });
    };
    const int64_t H = shape_.H, heads = shape_.heads, of_head = shape_.of_head();
    const auto clear = [](Real* d, int64_t at, int64_t count) {
      if (d) std::fill_n(d + at, count, Real{0});
    };
    for (int gate = 0; gate < cell.gates; ++gate) {
      if (!met(gate, &cell.input, 1)) {
        clear(job.d_weights.w_ih, gate * H * job.in_features, H * job.in_features);
        clear(job.d_weights.b_ih, gate * H, H);
      }
      if (met(gate, cell.product, cell.products)) continue;
      clear(job.d_weights.b_hh, gate * H, H);
      const int64_t width = heads > 1 ? of_head : shape_.out();
      for (int64_t head = 0; head < heads; ++head)
        clear(job.d_weights.w_hh, (head * cell.gates + gate) * of_head * width, of_head * width);
    }
  }

  // Each row has its own sum over the steps of a block.
  void accumulate_vectors(const Job& job, const Block& block) const {
    const int64_t vectors = shape_.program->vectors, stride = panels_.units * vectors;
    const Range mine = share(panels_.gates * vectors, job.crew.id, job.crew.size);
    for (int64_t i = mine.begin; i < mine.end; ++i) {
      const int64_t panel = i / vectors, v = i % vectors;
      panels_.kernels.sum_rows(
          {job.dir.d_vectors + i * panels_.unit, stride, panels_.units_of(panel), batch_.B(),
           job.d_weights.w_ch + v * shape_.H + panel * panels_.unit, !block.first});
    }
  }

  // Weights [heads, gates * H / heads, H / heads]: each head's gradients meet its own operand
  // alone.
  void accumulate_heads(const Job& job, const Block& block, int product) const {
    const int64_t of_head = shape_.of_head(), padded = panels_.padded(of_head);
    each_panel(job, pass_.product_slots(product),
               [&](const Real* from, int64_t slot, int64_t unit, int64_t count) {
                 const int64_t gate = panels_.cell.gate_of_slot[slot];
                 for (int64_t u = unit; u < unit + count;) {
                   const int64_t head = u / of_head;
                   const int64_t own = std::min(unit + count, (head + 1) * of_head) - u;
                   const int64_t row = (head * panels_.cell.gates + gate) * of_head + u % of_head;
                   panels_.kernels.outer({from + u - unit, panels_.d_width, own, block.rows,
                                          job.dir.operands[product] + head * padded * block.rows,
                                          block.rows * panels_.column, 0, panels_.columns(of_head),
                                          job.d_weights.w_hh + row * of_head, of_head, of_head,
                                          !block.first});
                   u += own;
                 }
               });
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
    each_panel(job, slots, [&](const Real* from, int64_t slot, int64_t unit, int64_t count) {
      visit(from, count, panels_.cell.gate_of_slot[slot] * shape_.H + unit);
    });
  }
  // The same with visit(d_pre, slot, unit, units), the first of a panel's units.
  template <class Visit>
  void each_panel(const Job& job, Range slots, Visit visit) const {
    const int64_t count = slots.end - slots.begin;
    const Range mine = share(panels_.gates * count, job.crew.id, job.crew.size);
    for (int64_t i = mine.begin; i < mine.end; ++i) {
      const int64_t panel = i / count, s = slots.begin + i % count;
      visit(job.dir.d_pre + panel * pass_.d_pre_panel() + pass_.slot_at(panel, s), s,
            panel * panels_.unit, panels_.units_of(panel));
    }
  }

  const BackwardPass<Real>& pass_;
  const Batch& batch_;
  const Shape& shape_;
  const Panels<Real>& panels_;
};

}  // namespace fastrnn
