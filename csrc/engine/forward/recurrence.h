// The steps of one direction, and the projection of its input ahead of them.
#pragma once

#include <algorithm>

#include "packing.h"
#include "pass.h"

namespace fastrnn {

template <class Real>
class ForwardRecurrence {
 public:
  using Job = typename ForwardPass<Real>::Job;
  using Part = typename ForwardPass<Real>::Part;

  ForwardRecurrence(const ForwardPass<Real>& pass, const ForwardPacking<Real>& packing)
      : pass_(pass),
        packing_(packing),
        batch_(pass.batch),
        shape_(pass.shape),
        panels_(pass.panels) {}

  void take_single_step(const Job& job, Crew group) const {
    const int64_t count = list_rows(job, 0, 0);
    if (count == 1 && panels_.cell.forward_row) {
      panels_.cell.forward_row(
          step_arguments(job, 0, 0, {0, count}, job.own.panels,
                         {job.weights->w_ih, job.weights->w_hh, 0, 0, job.weights->source}));
      end_step(job, 0, group);
      return;
    }
    const int64_t length = hidden_length(job, 0);
    const Panel one = {job.scratch.w_ih, job.scratch.w_hh,
                       panels_.format.panel_bytes(job.in_features, panels_.unit),
                       panels_.format.panel_bytes(length, panels_.unit)};
    for (int64_t panel = job.own.panels.begin; panel < job.own.panels.end; ++panel) {
      const Range own = {panel, panel + 1};
      packing_.pack_panel(job, panel, length);
      panels_.cell.forward(step_arguments(job, 0, 0, {0, count}, own, one));
    }
    end_step(job, 0, group);
  }

  void take_steps(Job job, Crew group) const {
    for (int64_t s = 0; s < batch_.T();) {
      const bool fused = job.decision.fused.yes;
      const int64_t end = fused ? batch_.T() : block_end(job, s);
      if (!fused) project(job, s, end, 0);
      for (int64_t slot = 0; s < end; ++s) {
        if (!take_step(job, group, pass_.time_of(job, s), slot)) return;
      }
    }
  }

  // Where the recurrence has parts for some threads only, the others project the input of the next
  // block meanwhile, and those join them when they are done with the present one. Blocks take the
  // two halves of the room and the two rolls of tickets by turns.
  void take_steps_with_helpers(const Job& job, Crew group, bool recurs) const {
    Job own = job;  // may grow when others leave the group
    const int64_t T = batch_.T(), room = job.decision.block_rows / 2;
    const int64_t length = job.decision.helped_steps, piece = job.decision.piece_steps;
    for (int64_t begin = -length, block = 1; begin < T; begin += length, block = 1 - block) {
      const int64_t next = begin + length, end = std::min(T, next);
      if (recurs) {
        int64_t slot = block * room;
        for (int64_t s = std::max<int64_t>(0, begin); s < end && recurs; ++s)
          recurs = take_step(own, group, pass_.time_of(job, s), slot);
      }
      if (next < T) {
        project_pieces(job, next, std::min(T, next + length), piece, (1 - block) * room,
                       job.tickets[1 - block]);
      }
      if (job.crew.id == 0) job.tickets[block].reset();
      job.crew.wait();
    }
  }

 private:
  // A piece is a few steps of one thread's rows and units.
  void project_pieces(const Job& job, int64_t begin, int64_t end, int64_t piece, int64_t slot,
                      Tickets& tickets) const {
    const int parts = job.split.threads();
    Job part = job;
    for (int64_t ticket = tickets.take();; ticket = tickets.take()) {
      const int64_t first = begin + ticket / parts * piece;
      if (first >= end) return;
      pass_.take_part(part, static_cast<int>(ticket % parts));
      int64_t before = 0;
      for (int64_t s = begin; s < first; ++s)
        before += part.rows.count(batch_.active(pass_.time_of(job, s)));
      project(part, first, std::min(end, first + piece), slot + before);
    }
  }

  // False if this thread has left the group with the step; else `slot` passes over its rows.
  bool take_step(Job& job, Crew& group, int64_t t, int64_t& slot) const {
    const int64_t count = list_rows(job, t, slot);
    slot += count;
    for (int i = 0; i < panels_.cell.forward_stages.count; ++i) {
      if (i > 0) group.wait_evenly();
      each_part(job, [&](const Part& part) {
        panels_.cell.forward(step_arguments(job, t, i, part.rows(count), part.panels,
                                            panel_of(job, i, part.panels.begin)));
      });
    }
    if (!end_step(job, t, group)) return true;
    if (group.id >= group.size) return false;
    pass_.share_with_fewer(job, group);
    return true;
  }

  // As many steps as a block has room for, at least one
  int64_t block_end(const Job& job, int64_t begin) const {
    int64_t count = 0, s = begin;
    for (; s < batch_.T(); ++s) {
      count += job.rows.count(batch_.active(pass_.time_of(job, s)));
      if (s > begin && count > job.decision.block_rows) break;
    }
    return s;
  }

  template <class Visit>
  void each_part(const Job& job, Visit visit) const {
    visit(job.own);
    if (job.dealt.panels.begin < job.dealt.panels.end) visit(job.dealt);
  }

  // x * w_ih^T and the bias for a thread's rows and units of some steps; slots in the order of
  // travel.
  void project(const Job& job, int64_t begin, int64_t end, int64_t slot) const {
    each_part(job, [&](const Part& part) { project_part(job, part, begin, end, slot); });
  }
  void project_part(const Job& job, const Part& part, int64_t begin, int64_t end,
                    int64_t slot) const {
    int64_t count = 0;
    for (int64_t s = begin; s < end; ++s) {
      const int64_t t = pass_.time_of(job, s), active = job.rows.count(batch_.active(t));
      const Range mine = part.rows(active);
      for (int64_t i = mine.begin; i < mine.end; ++i, ++count) {
        job.scratch.a[count] = job.x.at(t, job.rows.first + i * job.rows.stride);
        job.scratch.c[count] = pass_.projected(job, slot + i);
      }
      slot += active;
    }
    const Slots& slots = panels_.cell.input;
    const bool by_slot = panels_.cell.by_slot;
    const Range panels = part.panels;
    const int64_t columns = by_slot || panels_.cell.slots == 1 ? shape_.H : panels_.pre;
    for (int s = 0; s < (by_slot ? slots.count : 1); ++s) {
      const Real* init = job.packed.bias + (slots.first + s) * panels_.unit;
      panels_.cell.project({job.scratch.a, count, Runs{job.in_features},
                            pass_.w_ih_panel(job, panels.begin) + s * pass_.w_ih_slot(job),
                            panels.begin, panels.end, job.scratch.c, pass_.projected_panel(job),
                            columns, init, panels_.width, false, s * panels_.unit,
                            job.scratch.operands});
    }
  }

  // Where everything lies for the rows of one step; their projected input from `slot` on. Returns
  // their number.
  int64_t list_rows(const Job& job, int64_t t, int64_t slot) const {
    ForwardRow<Real>* row = job.scratch.rows;
    const int64_t active = batch_.active(t);
    for (int64_t r = job.rows.first; r < active; r += job.rows.stride, ++row, ++slot) {
      const int64_t before = batch_.previous(job.reverse, t, r);
      row->x = job.decision.fused.yes ? job.x.at(t, r) : pass_.projected(job, slot);
      for (int s = 0; s < panels_.cell.states; ++s) {
        row->before[s] = pass_.state_of(job, s, before, r);
        row->after[s] = s == kHidden && shape_.P ? pass_.raw(job, t, r) : job.states[s].at(t, r);
      }
      row->saved = pass_.gates(job, t, r);
      for (int i = 1; i < panels_.cell.products; ++i)
        row->operands[i] = pass_.operand(job, i, t, r);
      if (!shape_.program) continue;
      if (shape_.extras) row->extras = pass_.args.x.at(t, r) + shape_.I;
      row->sums = job.dir.sums + r * shape_.program->forward_sums * panels_.gates;
    }
    return row - job.scratch.rows;
  }

  // How much of the state before is multiplied: nothing at a direction's first step, whose rows all
  // begin there, if the caller gave no state.
  int64_t hidden_length(const Job& job, int64_t t) const {
    if (panels_.cell.product[0].count == 0) return 0;
    const int64_t first = job.reverse ? batch_.T() - 1 : 0;
    return t == first && !pass_.args.initial[kHidden] ? 0 : shape_.out();
  }

  // A stage's weights from a panel on, and how far one slot's are from the next one's where they
  // lie by slot; or the caller's, of a source
  struct Panel {
    const void* w_ih;
    const void* w_hh;
    int64_t w_ih_slot, w_hh_slot;
    Source source = Source::kPlain;
  };
  Panel panel_of(const Job& job, int stage, int64_t panel) const {
    const int product = panels_.cell.forward_stages.product[stage];
    if (product < 0) return {pass_.w_ih_panel(job, panel), nullptr, pass_.w_ih_slot(job), 0};
    return {pass_.w_ih_panel(job, panel), pass_.w_hh_panel(job, product, panel),
            pass_.w_ih_slot(job), pass_.w_hh_slot(product)};
  }

  bool reads_input(int stage) const {
    return stage == (shape_.program ? shape_.program->forward_pass(pass_.plan.save).input : 0);
  }

  // Odd steps walk the panels backwards, and so begin with those that are in cache still.
  ForwardStep<Real> step_arguments(const Job& job, int64_t t, int stage, Range rows, Range panels,
                                   const Panel& weights) const {
    const int product = panels_.cell.forward_stages.product[stage];
    const int64_t K = product == 0  ? hidden_length(job, t)
                      : product > 0 ? shape_.operand_width(product)
                                    : 0;
    return {job.scratch.rows + rows.begin,
            rows.end - rows.begin,
            shape_.H,
            K,
            job.decision.fused.yes && reads_input(stage) ? job.in_features : 0,
            pass_.projected_panel(job),
            job.packed.bias,
            weights.w_ih,
            weights.w_hh,
            panels.begin,
            panels.end,
            t % 2 != 0,
            shape_.program ? program_step(job, t, stage, weights) : nullptr,
            job.scratch.operands,
            weights.source};
  }

  const ProgramStep<Real>* program_step(const Job& job, int64_t t, int stage,
                                        const Panel& weights) const {
    const int product = panels_.cell.forward_stages.product[stage];
    ProgramStep<Real>& step = *job.scratch.program.step;
    const ProgramStage& own = shape_.program->forward_pass(pass_.plan.save).stages[stage];
    step.whole = own.whole.view();
    step.part = own.part.view();
    step.of_rows = own.rows.view();
    step.product_number = product;
    step.reads_input = reads_input(stage);
    step.kept_panel = pass_.kept_panel(t);
    step.product = product < 0 ? Slots{} : panels_.cell.product[product];
    step.w_ih_slot = weights.w_ih_slot;
    step.w_hh_slot = weights.w_hh_slot;
    step.w_hh_panel = product < 0 ? 0 : panels_.product_panel(shape_, product);
    return &step;
  }

  // From here on the rest of the group may read this step's output. True if it is a smaller group.
  bool end_step(const Job& job, int64_t t, Crew& group) const {
    if (!panels_.cell.meets && !shape_.P) return false;
    if (shape_.P) {
      group.wait_evenly();
      project_hidden(job, t);
    }
    return group.wait_for_step();
  }

  // y = h * w_hr^T
  void project_hidden(const Job& job, int64_t t) const {
    int64_t count = 0;
    for (int64_t r = job.rows.first; r < batch_.active(t); r += job.rows.stride, ++count) {
      job.scratch.a[count] = pass_.raw(job, t, r);
      job.scratch.c[count] = job.states[kHidden].at(t, r);
    }
    panels_.format.product({job.scratch.a, count, Runs{shape_.H},
                            pass_.w_hr_panel(job, job.columns.begin), job.columns.begin,
                            job.columns.end, job.scratch.c, panels_.column, shape_.P, nullptr, 0,
                            false, 0, job.scratch.operands});
  }

  const ForwardPass<Real>& pass_;
  const ForwardPacking<Real>& packing_;
  const Batch& batch_;
  const Shape& shape_;
  const Panels<Real>& panels_;
};

}  // namespace fastrnn
