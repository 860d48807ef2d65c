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
    if (pass_.in_format) transpose_gradients(job, block);
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
    pass_.multiply(job, mine.end - mine.begin, pass_.pre_runs(pass_.input_slots()), job.dir.w_ih,
                   all, job.in_features, false);
  }

  void accumulate_weights(const Job& job, const Block& block) const {
    const Weights<Real>& d = job.d_weights;
    const auto weight = [&](Real* d_w, const Real* operand, int64_t n, Range slots) {
      if (!d_w) return;
      each_panel(job, slots, [&](const Real* from, Range own, int64_t unit, int64_t units) {
        int64_t rows = 0;
        for (int64_t s = own.begin; s < own.end; ++s) {
          for (int64_t u = unit; u < unit + units; ++u)
            job.scratch.c[rows++] = d_w + (first_row(s) + u) * n;
        }
        add_outer(job, block, {from, panels_.d_width, rows, transposed(job, block, from)}, operand,
                  n, {0, panels_.columns(n)});
      });
    };
    const auto bias = [&](Real* d_b, Range slots) {
      if (!d_b) return;
      each_panel(job, slots, [&](const Real* from, Range own, int64_t unit, int64_t units) {
        for (int64_t s = own.begin; s < own.end; ++s, from += units) {
          panels_.kernels.sum_rows(
              {from, panels_.d_width, units, block.rows, d_b + first_row(s) + unit, !block.first});
        }
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
      for (int64_t p = 0; p < shape_.P; ++p) job.scratch.c[p] = d.w_hr + p * shape_.H;
      add_outer(
          job, block, {job.dir.d_y, panels_.padded(shape_.P), shape_.P, job.dir.d_y_transposed},
          job.dir.raw, shape_.H, share(panels_.columns(shape_.H), job.crew.id, job.crew.size));
    }
  }

 private:
  // Gradients of a block's rows, one below the other: those of `rows` rows of weights
  struct Gradients {
    const Real* first;
    int64_t stride;
    int64_t rows;
    const Real* transposed = nullptr;  // [rows][padded rows of the block] for products in a format
  };

  // Adds what they give with some column panels of an operand of n columns to the listed rows.
  void add_outer(const Job& job, const Block& block, const Gradients& d, const Real* operand,
                 int64_t n, Range columns) const {
    if (pass_.in_format) {
      for (int64_t i = 0; i < d.rows; ++i)
        job.scratch.a[i] = d.transposed + i * panels_.padded(block.rows);
      return pass_.multiply(job, d.rows, Runs{block.rows}, operand, columns, n, !block.first);
    }
    const int64_t panel = block.rows * panels_.column;
    panels_.kernels.outer({d.first, d.stride, d.rows, block.rows, operand + columns.begin * panel,
                           panel, columns.begin, columns.end, job.scratch.c, n, !block.first});
  }

  // Gradients of a block's rows side by side: what a product in a format takes as rows
  void transpose_gradients(const Job& job, const Block& block) const {
    const bool wanted = job.d_weights.w_ih || job.d_weights.w_hh;
    const Range mine = share(wanted ? panels_.gates : 0, job.crew.id, job.crew.size);
    for (int64_t i = mine.begin; i < mine.end; ++i) {
      transpose(block, job.dir.d_pre + i * pass_.d_pre_panel(), panels_.d_width,
                job.dir.d_transposed + i * panels_.d_width * panels_.padded(block.rows));
    }
    if (job.d_weights.w_hr && job.crew.id == 0)
      transpose(block, job.dir.d_y, panels_.padded(shape_.P), job.dir.d_y_transposed);
  }
  void transpose(const Block& block, const Real* from, int64_t columns, Real* to) const {
    const int first = 0;
    panels_.kernels.pack_gates(
        {from, block.rows, columns, 1, &first, panels_.padded(block.rows), to, 0, 1});
  }
  // Where the gradients at a place of d_pre stand side by side
  const Real* transposed(const Job& job, const Block& block, const Real* d_pre) const {
    if (!pass_.in_format) return nullptr;
    const int64_t at = d_pre - job.dir.d_pre, panel = at / pass_.d_pre_panel();
    const int64_t column = at % pass_.d_pre_panel();
    return job.dir.d_transposed + (panel * panels_.d_width + column) * panels_.padded(block.rows);
  }

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
    const int64_t gates = panels_.cell.gates;
    const auto add_units = [&](const Real* from, int64_t gate, int64_t unit, int64_t end) {
      while (unit < end) {
        const int64_t head = unit / of_head, own = std::min(end, (head + 1) * of_head) - unit;
        for (int64_t i = 0; i < own; ++i) {
          const int64_t row = (head * gates + gate) * of_head + unit % of_head + i;
          job.scratch.c[i] = job.d_weights.w_hh + row * of_head;
        }
        add_outer(job, block, {from, panels_.d_width, own},
                  job.dir.operands[product] + head * padded * block.rows, of_head,
                  {0, panels_.columns(of_head)});
        from += own;
        unit += own;
      }
    };
    each_panel(job, pass_.product_slots(product),
               [&](const Real* from, Range own, int64_t unit, int64_t units) {
                 for (int64_t s = own.begin; s < own.end; ++s, from += units)
                   add_units(from, panels_.cell.gate_of_slot[s], unit, unit + units);
               });
  }

  template <class Visit>
  void each_row(const Block& block, Visit visit) const {
    int64_t i = 0;
    for (int64_t t = block.begin; t < block.end; ++t) {
      for (int64_t r = 0; r < batch_.active(t); ++r) visit(i++, t, r);
    }
  }

  // Where the rows of a slot's gate begin in a weight matrix
  int64_t first_row(int64_t slot) const { return panels_.cell.gate_of_slot[slot] * shape_.H; }

  // Calls visit(d_pre, slots, unit, units) for this thread's share of the slots' panels: gradients
  // [slots][units] of some slots of a panel, and its first unit.
  template <class Visit>
  void each_panel(const Job& job, Range slots, Visit visit) const {
    const int64_t count = slots.end - slots.begin;
    const Range mine = share(panels_.gates * count, job.crew.id, job.crew.size);
    for (int64_t i = mine.begin; i < mine.end;) {
      const int64_t panel = i / count, first = slots.begin + i % count;
      const Range own = {first, std::min(slots.end, first + mine.end - i)};
      visit(job.dir.d_pre + panel * pass_.d_pre_panel() + pass_.slot_at(panel, first), own,
            panel * panels_.unit, panels_.units_of(panel));
      i += own.end - own.begin;
    }
  }

  const BackwardPass<Real>& pass_;
  const Batch& batch_;
  const Shape& shape_;
  const Panels<Real>& panels_;
};

}  // namespace fastrnn
