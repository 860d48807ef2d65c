// The backward recurrence: from the gradients of the states after a step to those before it.
#pragma once

#include <algorithm>

#include "pass.h"

namespace fastrnn {

template <class Real>
class BackwardRecurrence {
 public:
  using Job = typename BackwardPass<Real>::Job;
  using Block = typename BackwardPass<Real>::Block;

  explicit BackwardRecurrence(const BackwardPass<Real>& pass)
      : pass_(pass), batch_(pass.batch), shape_(pass.shape), panels_(pass.panels) {}

  // One thread's part in the steps of a block, last step first; false if it has left the group
  bool operator()(Job& job, Crew& group, const Block& block) const {
    if (shape_.program) clear_vectors(job);
    for (int64_t s = block.begin; s < block.end; ++s) {
      const int64_t t = job.reverse ? s : block.begin + block.end - 1 - s;
      if (shape_.P) {
        collect_projected(job, block, t);
        group.wait_evenly();
        unproject(job, block, t);
      }
      BackwardStep<Real> step = list_rows(job, block, t);
      const bool last = t == (job.reverse ? batch_.T() - 1 : 0);
      for (int i = 0; i < panels_.cell.backward_stages.count; ++i) {
        const int product = panels_.cell.backward_stages.product[i];
        if (shape_.program) step.program = program_step(job, t, i);
        panels_.cell.backward(step);
        if (i > 0) {
          if (is_awaited(i)) group.wait_evenly();
        } else if (panels_.cell.meets && group.wait_for_step()) {
          if (group.id >= group.size) return false;
          pass_.take_part(job, group);
          step.panel_begin = job.gates.begin;
          step.panel_end = job.gates.end;
        }
        if (product > 0 || (product == 0 && (!last || pass_.args.d_initial[kHidden])))
          multiply_to_operand(job, block, t, product);
      }
      if (batch_.has_resets()) stop_at_resets(job, t);
    }
    return true;
  }

 private:
  // Calls visit(i, r) for the i-th row r of this thread's that is active at step t; returns how
  // many there are.
  template <class Visit>
  int64_t each_active_row(const Job& job, int64_t t, Visit visit) const {
    int64_t i = 0;
    const int64_t active = batch_.active(t);
    for (int64_t r = job.rows.first; r < active; r += job.rows.stride) visit(i++, r);
    return i;
  }

  // Does anybody read what others of the group have done in a stage? After the last one without a
  // product that is the next step's matter, unless sums would be written while they are read.
  bool is_awaited(int stage) const {
    const Stages& all = panels_.cell.backward_stages;
    return all.product[stage] >= 0 || stage + 1 < all.count || shape_.program->backward_sums > 0;
  }

  void clear_vectors(const Job& job) const {
    const int64_t of_panel = shape_.program->vectors * panels_.unit;
    for (int64_t r = job.rows.first; r < batch_.B(); r += job.rows.stride) {
      std::fill(pass_.d_vectors(job, r) + job.gates.begin * of_panel,
                pass_.d_vectors(job, r) + job.gates.end * of_panel, Real{0});
    }
  }

  // Gradient of the projection's output: from the step after and from above
  void collect_projected(const Job& job, const Block& block, int64_t t) const {
    const int64_t begin = job.columns.begin * panels_.column;
    const int64_t end = std::min(job.columns.end * panels_.column, shape_.P);
    each_active_row(job, t, [&](int64_t, int64_t r) {
      const Real* from = pass_.d_state(job, kHidden, r);
      Real* to = pass_.d_projected(job, block, t, r);
      for (int64_t p = begin; p < end; ++p)
        to[p] = from[p] + (job.d_y ? job.d_y.at(t, r)[p] : Real{0});
      if (job.d_all[kHidden]) add(job.d_all[kHidden].at(t, r), {begin, end}, to);
    });
  }

  static void add(const Real* from, Range mine, Real* to) {
    for (int64_t i = mine.begin; i < mine.end; ++i) to[i] += from[i];
  }

  void unproject(const Job& job, const Block& block, int64_t t) const {
    const int64_t count = each_active_row(job, t, [&](int64_t i, int64_t r) {
      job.scratch.a[i] = pass_.d_projected(job, block, t, r);
      job.scratch.c[i] = pass_.d_raw(job, r);
    });
    const int64_t per_column = panels_.column / panels_.unit;
    const Range columns = {job.gates.begin / per_column,
                           (job.gates.end + per_column - 1) / per_column};
    pass_.multiply(job, count, Runs{shape_.P}, job.dir.w_hr, columns, shape_.H, false);
  }

  // Where everything lies for the rows of one step
  BackwardStep<Real> list_rows(const Job& job, const Block& block, int64_t t) const {
    const Range units = {job.gates.begin * panels_.unit,
                         std::min(job.gates.end * panels_.unit, shape_.H)};
    const int64_t count = each_active_row(job, t, [&](int64_t i, int64_t r) {
      BackwardRow<Real>* row = job.scratch.rows + i;
      const int64_t stacked = batch_.start(t) + r;
      row->saved = panels_.kept_of(job.saved.gates, batch_.start(t), r);
      row->d_y = job.d_y && !shape_.P ? job.d_y.at(t, r) : nullptr;
      row->d_pre = pass_.d_pre(job, block, t, r);
      for (int i = 1; i < panels_.cell.products; ++i)
        row->d_operands[i] = pass_.d_operand(job, i, r);
      if (shape_.program) list_for_program(job, t, r, row);
      for (int s = 0; s < panels_.cell.states; ++s) {
        const bool projected = s == kHidden && shape_.P;
        row->after[s] = projected ? job.saved.raw + stacked * shape_.H : job.states[s].at(t, r);
        row->before[s] = pass_.state_before(job, s, t, r);
        row->d_states[s] = projected ? pass_.d_raw(job, r) : pass_.d_state(job, s, r);
        if (job.d_all[s] && !projected) add(job.d_all[s].at(t, r), units, row->d_states[s]);
      }
    });
    return {job.scratch.rows, count,         shape_.H, pass_.d_pre_panel(),
            job.gates.begin,  job.gates.end, nullptr};
  }

  void list_for_program(const Job& job, int64_t t, int64_t r, BackwardRow<Real>* row) const {
    const Program& program = *shape_.program;
    if (shape_.extras) {
      row->extras = pass_.args.x.at(t, r) + shape_.I;
      row->d_extras = pass_.d_extras(job, batch_.start(t) + r);
    }
    row->sums = job.dir.sums + r * program.backward_sums * panels_.gates;
    row->temps = job.dir.temps + r * panels_.gates * program.temps * panels_.unit;
    row->d_vectors = pass_.d_vectors(job, r);
  }

  const ProgramStep<Real>* program_step(const Job& job, int64_t t, int stage) const {
    ProgramStep<Real>& step = *job.scratch.program.step;
    const ProgramStage& own = shape_.program->backward.stages[stage];
    step.whole = own.whole.view();
    step.part = own.part.view();
    step.of_rows = own.rows.view();
    step.kept_panel = panels_.kept_panel(batch_.active(t));
    return &step;
  }

  // The gradient of what a product multiplies
  void multiply_to_operand(const Job& job, const Block& block, int64_t t, int product) const {
    const Range slots = pass_.product_slots(product);
    const int64_t count = each_active_row(job, t, [&](int64_t i, int64_t r) {
      job.scratch.a[i] = pass_.d_pre_of(job, block, t, r, slots);
      job.scratch.c[i] =
          product == 0 ? pass_.d_state(job, kHidden, r) : pass_.d_operand(job, product, r);
    });
    const int64_t width = shape_.operand_width(product);
    const bool accumulate = product == 0 && panels_.cell.reads_previous_hidden;
    if (pass_.in_place) {
      return pass_.multiply_in_place(job, count, job.weights.w_hh, slots, job.columns, width,
                                     accumulate);
    }
    if (shape_.heads > 1) return multiply_heads(job, count, product, accumulate);
    pass_.multiply(job, count, pass_.pre_runs(slots), job.dir.w_hh[product], job.columns, width,
                   accumulate);
  }

  // A column panel at a time, each of which meets the gradients of its own heads' panels alone
  void multiply_heads(const Job& job, int64_t count, int product, bool accumulate) const {
    const Range slots = pass_.product_slots(product);
    const int64_t stride = panels_.product_rows(shape_, product) * panels_.column;
    int64_t moved = pass_.pre_offset(slots, 0);
    for (int64_t i = job.columns.begin; i < job.columns.end; ++i) {
      const Range met = panels_.product_panels(shape_, i);
      const int64_t begin = pass_.pre_offset(slots, met.begin);
      for (int64_t r = 0; r < count; ++r) job.scratch.a[r] += begin - moved;
      moved = begin;
      panels_.kernels.product({job.scratch.a, count, pass_.pre_runs(slots, met),
                               job.dir.w_hh[product] + i * stride, i, i + 1, job.scratch.c,
                               panels_.column, shape_.H, nullptr, 0, accumulate});
    }
  }

  // Nothing flows back to the step that a row was reset after.
  void stop_at_resets(const Job& job, int64_t t) const {
    const auto clear = [](Real* gradient, Range panels, int64_t width) {
      std::fill(gradient + panels.begin * width, gradient + panels.end * width, Real{0});
    };
    each_active_row(job, t, [&](int64_t, int64_t r) {
      if (batch_.previous(job.reverse, t, r) != Batch::kZeros) return;
      clear(pass_.d_state(job, kHidden, r), job.columns, panels_.column);
      for (int s = 1; s < panels_.first_held; ++s)
        clear(pass_.d_state(job, s, r), job.gates, panels_.unit);
    });
  }

  const BackwardPass<Real>& pass_;
  const Batch& batch_;
  const Shape& shape_;
  const Panels<Real>& panels_;
};

}  // namespace fastrnn
