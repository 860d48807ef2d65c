// What every part of a forward pass works on.
#pragma once

#include <algorithm>

#include "engine/schedule/decide.h"
#include "engine/team/team.h"
#include "freeze.h"
#include "workspace.h"

namespace fastrnn {

// What lies where, and who has which part.
template <class Real>
struct ForwardPass {
  ForwardPass(const Plan& plan, const ForwardArgs<Real>& args)
      : plan(plan),
        batch(plan.batch),
        shape(plan.shape),
        args(args),
        panels(plan),
        arena(args.workspace),
        workspace(plan, arena),
        saved_arena(args.saved, true),
        saved(plan, saved_arena),
        packed(packed_in<Real>(plan.packed.get())) {
    workspace.numbers.fill(shape.program);
  }

  const Plan& plan;
  const Batch& batch;
  const Shape& shape;
  const ForwardArgs<Real>& args;
  const Panels<Real> panels;
  Arena arena;
  const ForwardWorkspace<Real> workspace;
  Arena saved_arena;
  const Saved<Real> saved;
  const PackedDirection<Real>* packed;  // [layers * directions], or null: those of the workspace
  Tickets tickets[2][2];                // [directions][blocks by turns]

  // Gate panels, and which piece of a step's rows a thread has in them.
  struct Part {
    Range panels{};
    int piece = 0, pieces = 1;
    Range rows(int64_t count) const { return share(count, piece, pieces); }
  };

  // One thread's part in one direction of one layer.
  struct Job {
    Job(ForwardPass& pass, int64_t layer, int64_t d, const CrewDecision& decision,
        const Sides& sides, int thread)
        : decision(decision),
          split(decision.split),
          layer(layer),
          reverse(pass.shape.reversed(d)),
          index(layer * pass.shape.directions + d),
          in_features(pass.shape.in(layer)),
          crew(sides.crew_of(d)),
          dir(pass.workspace.directions[d]),
          saved(pass.plan.save ? pass.saved.directions[index] : typename Saved<Real>::Direction{}),
          packed(pass.packed ? pass.packed[index] : dir.packed),
          weights(pass.packed ? nullptr : pass.args.weights + index),
          vectors(weights ? weights->w_ch : packed.vectors),
          scratch(pass.workspace.threads[thread]),
          tickets(pass.tickets[d]),
          x(pass.input(layer)) {
      for (int s = 0; s < pass.panels.cell.states; ++s) states[s] = pass.state(layer, d, s);
      if (const Program* program = pass.shape.program)
        scratch.program.start(*program, pass.panels, pass.workspace.numbers.constants, vectors);
    }
    const CrewDecision& decision;
    Split split;  // the decision's, but for threads that leave
    int64_t layer;
    bool reverse;
    int64_t index;  // of the (layer, direction)
    int64_t in_features;
    Crew crew;
    const typename ForwardWorkspace<Real>::Direction& dir;
    typename Saved<Real>::Direction saved;
    const PackedDirection<Real>& packed;
    const Weights<const Real>* weights;  // null where they were packed before
    const Real* vectors;                 // of a program
    typename ForwardWorkspace<Real>::Thread scratch;
    Tickets* tickets;  // [2] for pieces of the blocks by turns
    View<const Real> x;
    View<Real> states[kMostStates];  // after every step, or the running ones

    Rows rows{};      // of the batch
    Part own, dealt;  // panels for all of the rows, panels that the group shares by rows
    Range columns{};  // column panels of projected features
    Real* projected = nullptr;
  };

  // The rows and units of the split's i-th thread
  void take_part(Job& job, int i) const {
    const int group = i / job.split.units, part = i % job.split.units;
    job.rows = {group, job.split.rows};
    const int64_t even = panels.gates - (job.split.deals ? panels.gates % job.split.units : 0);
    job.own = {share(even, part, job.split.units)};
    job.dealt = {{even, panels.gates}, part, job.split.units};
    job.columns = share(panels.columns(shape.P), part, job.split.units);
    job.projected = job.dir.projected + group * job.decision.block_rows * panels.pre;
  }
  // The same rows and more units, where others of the thread's group have left it
  void share_with_fewer(Job& job, const Crew& group) const {
    job.split.units = group.size;
    take_part(job, static_cast<int>(job.rows.first) * group.size + group.id);
  }
  // When a direction takes its s-th step
  int64_t time_of(const Job& job, int64_t s) const { return job.reverse ? batch.T() - 1 - s : s; }

  View<Real> output(int64_t layer) const {
    const int64_t width = shape.directions * shape.out();
    if (plan.save) return batch.stacked_view(saved.outputs[layer], width);
    return layer + 1 == shape.layers ? args.y
                                     : batch.stacked_view(workspace.outputs[layer % 2], width);
  }

  View<Real> state(int64_t layer, int64_t d, int s) const {
    if (s == kHidden) {
      View<Real> y = output(layer);
      y.base += d * shape.out();
      return y;
    }
    const auto& dir = workspace.directions[d];
    Real* all =
        plan.save ? saved.directions[layer * shape.directions + d].states[s] : dir.states[s];
    return all ? batch.stacked_view(all, panels.units)
               : View<Real>{dir.initial[s], 0, panels.units, nullptr, nullptr};
  }

  View<const Real> input(int64_t layer) const {
    if (layer == 0) return args.x;
    const View<Real> below = output(layer - 1);
    return {plan.save ? saved.dropped[layer - 1] : below.base, below.step, below.row, below.start,
            below.order};
  }

  // ---- packed weights, projected input ----

  // Where a panel's weights begin; by slot, those of the first one; and bytes from slot to slot
  char* w_ih_panel(const Job& job, int64_t panel) const {
    return job.packed.w_ih + panel * panels.input_panel(job.in_features);
  }
  char* w_hh_panel(const Job& job, int product, int64_t panel) const {
    return job.packed.w_hh[product] + panel * panels.product_panel(shape, product);
  }
  int64_t w_ih_slot(const Job& job) const {
    return panels.gates * panels.input_panel(job.in_features);
  }
  int64_t w_hh_slot(int product) const {
    return panels.gates * panels.product_panel(shape, product);
  }
  char* w_hr_panel(const Job& job, int64_t panel) const {
    return job.packed.w_hr + panel * panels.projection_panel(shape);
  }
  int64_t projected_panel(const Job& job) const {
    return job.decision.block_rows * panels.gate_width;
  }
  Real* projected(const Job& job, int64_t slot) const {
    return job.projected + slot * panels.gate_width;
  }

  // ---- states ----

  // A state after a step, or what Batch::previous says instead of one
  const Real* state_of(const Job& job, int s, int64_t step, int64_t r) const {
    if (step >= 0) return job.states[s].at(step, r);
    const bool reset = step == Batch::kZeros && s < panels.first_held;
    return reset ? workspace.numbers.reset(s) : initial_state(job, s, r);
  }
  const Real* initial_state(const Job& job, int s, int64_t r) const {
    if (s != kHidden) return job.dir.initial[s] + r * panels.units;
    const Real* h0 = args.initial[kHidden];
    return h0 ? h0 + (job.index * batch.B() + batch.entry(r)) * shape.out()
              : workspace.numbers.reset(s);
  }
  // A row's gates, or null where nobody will read them
  Real* gates(const Job& job, int64_t t, int64_t r) const {
    if (!plan.save) return job.dir.gates ? panels.kept_of(job.dir.gates, 0, r) : nullptr;
    return panels.cell.saved ? panels.kept_of(job.saved.gates, batch.start(t), r) : nullptr;
  }
  // How far one panel's are from the next one's. Where all steps have the same room, rows lie in it
  // by their number in the batch: groups of them do not wait for one another, and those that are
  // active may be fewer for one group than for another, which is at an earlier step.
  int64_t kept_panel(int64_t t) const {
    return panels.kept_panel(plan.save ? batch.active(t) : batch.B());
  }
  Real* operand(const Job& job, int product, int64_t t, int64_t r) const {
    return plan.save ? job.saved.operands[product] + (batch.start(t) + r) * shape.H
                     : job.dir.operands[product] + r * shape.H;
  }
  Real* raw(const Job& job, int64_t t, int64_t r) const {
    return plan.save ? job.saved.raw + (batch.start(t) + r) * shape.H : job.dir.raw + r * shape.H;
  }
};

}  // namespace fastrnn
