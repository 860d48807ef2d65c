// What every part of a backward pass works on.
#pragma once

#include <algorithm>

#include "engine/team/team.h"
#include "workspace.h"

namespace fastrnn {

// What lies where, and products with the weights.
template <class Real>
struct BackwardPass {
  BackwardPass(const Plan& plan, const BackwardArgs<Real>& args)
      : plan(plan),
        batch(plan.batch),
        shape(plan.shape),
        args(args),
        panels(plan),
        arena(args.workspace),
        workspace(plan, arena),
        saved_arena(const_cast<char*>(args.saved), true),
        saved(plan, saved_arena),
        in_place(plan.weights_in_place),
        in_format(multiplies_in_format(plan)),
        lowest(lowest_layer()) {
    workspace.numbers.fill(shape.program);
  }

  const Plan& plan;
  const Batch& batch;
  const Shape& shape;
  const BackwardArgs<Real>& args;
  const Panels<Real> panels;
  Arena arena;
  const BackwardWorkspace<Real> workspace;
  Arena saved_arena;
  const Saved<Real> saved;
  const bool in_place;   // weights are read where they lie
  const bool in_format;  // operands of products are packed and rounded as the plan's format
  const int64_t lowest;  // layer that anyone asks about

  // One thread's part in one direction of one layer.
  struct Job {
    Job(const BackwardPass& pass, int64_t layer, int64_t d, const Sides& sides, int thread)
        : layer(layer),
          reverse(pass.shape.reversed(d)),
          index(layer * pass.shape.directions + d),
          in_features(pass.shape.in(layer)),
          crew(sides.crew_of(d)),
          dir(pass.workspace.directions[d]),
          saved(pass.saved.directions[index]),
          weights(pass.args.weights[index]),
          d_weights(pass.args.d_weights[index]),
          scratch(pass.workspace.threads[thread]),
          x(pass.input(layer)),
          d_y(pass.output_gradient(layer)) {
      const int64_t offset = d * pass.shape.out();
      states[kHidden] = pass.output(layer);
      states[kHidden].base += offset;
      for (int s = 1; s < pass.panels.cell.states; ++s) {
        states[s] =
            s < pass.panels.first_held
                ? pass.batch.template stacked_view<const Real>(saved.states[s], pass.panels.units)
                : View<const Real>{dir.initial[s], 0, pass.panels.units, nullptr, nullptr};
      }
      for (int s = 0; s < pass.panels.cell.states; ++s)
        d_all[s] = states_view(pass.batch, pass.shape, s, pass.args.d_all[s], index);
      if (d_y) d_y.base += offset;
      if (pass.wants_input_gradient(layer)) {
        d_x = d == 0 ? pass.input_gradient(layer) : pass.batch.stacked_view(dir.d_x, in_features);
      }
      if (const Program* program = pass.shape.program) {
        scratch.program.start(*program, pass.panels, pass.workspace.numbers.constants,
                              weights.w_ch);
      }
    }
    int64_t layer;
    bool reverse;
    int64_t index;
    int64_t in_features;
    Crew crew;
    const typename BackwardWorkspace<Real>::Direction& dir;
    const typename Saved<Real>::Direction& saved;
    const Weights<const Real>& weights;
    const Weights<Real>& d_weights;
    typename BackwardWorkspace<Real>::Thread scratch;
    View<const Real> x, d_y;
    View<const Real> states[kMostStates], d_all[kMostStates];  // after every step
    View<Real> d_x;

    Rows rows{};  // of the batch, in the recurrence
    Range gates{},
        columns{};  // gate panels and column panels of the same units (of H, and of the output)
  };

  // A thread's units are those that its place in its group stands for.
  void take_part(Job& job, const Crew& group) const {
    job.columns = share(panels.columns(shape.out()), group.id, group.size);
    job.gates = gates_of(share(panels.columns(shape.H), group.id, group.size));
  }

  // A time block: steps begin .. end, rows stacked from `start`.
  struct Block {
    int64_t begin, end;
    int64_t start, rows;
    bool first;  // of those that this direction works through
  };

  // The same units as some column panels hold, in gate panels
  Range gates_of(Range columns) const {
    const int64_t per_column = panels.column / panels.unit;
    return {std::min(panels.gates, columns.begin * per_column),
            std::min(panels.gates, columns.end * per_column)};
  }

  View<const Real> output(int64_t layer) const {
    return batch.template stacked_view<const Real>(saved.outputs[layer],
                                                   shape.directions * shape.out());
  }
  View<const Real> input(int64_t layer) const {
    if (layer == 0) return args.x;
    return batch.template stacked_view<const Real>(saved.dropped[layer - 1],
                                                   shape.directions * shape.out());
  }
  View<const Real> output_gradient(int64_t layer) const {
    if (layer + 1 == shape.layers) return args.d_y;
    return batch.template stacked_view<const Real>(workspace.d_outputs[layer % 2],
                                                   shape.directions * shape.out());
  }
  View<Real> input_gradient(int64_t layer) const {
    if (layer == 0) return args.d_x;
    return batch.stacked_view(workspace.d_outputs[(layer - 1) % 2], shape.in(layer));
  }

  // Layers below the lowest that anyone asks about are left out.
  int64_t lowest_layer() const {
    if (args.d_x) return 0;
    for (const Real* d_initial : args.d_initial) {
      if (d_initial) return 0;
    }
    for (int64_t i = 0; i < shape.layers * shape.directions; ++i) {
      const Weights<Real>& d = args.d_weights[i];
      if (d.w_ih || d.w_hh || d.b_ih || d.b_hh || d.w_hr || d.w_ch) return i / shape.directions;
    }
    return shape.layers;
  }
  bool wants_input_gradient(int64_t layer) const {
    return layer > lowest || (layer == 0 && args.d_x);
  }

  int64_t state_row(const Job& job, int64_t r) const {
    return job.index * batch.B() + batch.entry(r);
  }
  // A state that a step begins with
  const Real* state_before(const Job& job, int s, int64_t t, int64_t r) const {
    const int64_t before = batch.previous(job.reverse, t, r);
    if (before >= 0) return job.states[s].at(before, r);
    if (before == Batch::kZeros && s < panels.first_held) return workspace.numbers.reset(s);
    if (s != kHidden) return job.dir.initial[s] + r * panels.units;
    const Real* h0 = args.initial[kHidden];
    return h0 ? h0 + state_row(job, r) * shape.out() : workspace.numbers.reset(s);
  }
  Real* d_pre(const Job& job, const Block& block, int64_t t, int64_t r) const {
    return job.dir.d_pre + (batch.start(t) - block.start + r) * panels.d_width;
  }
  int64_t d_pre_panel() const { return workspace.panel_rows * panels.d_width; }

  // Which slots of d_pre meet which weights, and where a product over them finds them
  Range input_slots() const { return range_of(panels.cell.input); }
  Range product_slots(int product) const { return range_of(panels.cell.product[product]); }
  static Range range_of(const Slots& slots) { return {slots.first, slots.first + slots.count}; }
  int64_t pre_length(Range slots) const { return (slots.end - slots.begin) * shape.H; }
  Runs pre_runs(Range slots) const { return pre_runs(slots, {0, panels.gates}); }
  // In some gate panels
  Runs pre_runs(Range slots, Range met) const {
    const int64_t count = slots.end - slots.begin;
    const int64_t run = count * panels.units_of(met.begin);
    if (met.end - met.begin == 1) return {run};
    const int64_t last = met.end - 1, units = panels.units_of(last);
    if (units == panels.unit) return {run, met.end - met.begin, d_pre_panel()};
    const int64_t tail_at = pre_offset(slots, last) - pre_offset(slots, met.begin);
    return {run, last - met.begin, d_pre_panel(), tail_at, count * units};
  }
  // Where the slots of a gate panel stand in a row of d_pre
  int64_t pre_offset(Range slots, int64_t panel) const {
    return panel * d_pre_panel() + slot_at(panel, slots.begin);
  }
  // Where a slot stands in a panel of d_pre
  int64_t slot_at(int64_t panel, int64_t slot) const { return slot * panels.units_of(panel); }
  const Real* d_pre_of(const Job& job, const Block& block, int64_t t, int64_t r,
                       Range slots) const {
    return d_pre(job, block, t, r) + pre_offset(slots, 0);
  }
  Real* d_state(const Job& job, int s, int64_t r) const {
    return job.dir.d_states[s] + r * panels.gradient_width(shape, s);
  }
  Real* d_operand(const Job& job, int product, int64_t r) const {
    return job.dir.d_operands[product] + r * panels.padded(shape.H);
  }
  Real* d_extras(const Job& job, int64_t row) const {
    return job.dir.d_extras + row * workspace.extras_width;
  }
  Real* d_vectors(const Job& job, int64_t r) const {
    return job.dir.d_vectors + r * panels.units * shape.program->vectors;
  }
  Real* d_raw(const Job& job, int64_t r) const {
    return job.dir.d_raw + r * panels.padded(shape.H);
  }
  Real* d_projected(const Job& job, const Block& block, int64_t t, int64_t r) const {
    return job.dir.d_y + (batch.start(t) - block.start + r) * panels.padded(shape.P);
  }

  // ---- products with the weights ----

  // Rows of w in the order of the d_pre that they meet: [gate panel][gate][unit]
  void list_gate_rows(const Real* w, int64_t K, Range slots, const Real** rows) const {
    for (int64_t panel = 0; panel < panels.gates; ++panel) {
      for (int64_t s = slots.begin; s < slots.end; ++s) {
        const int64_t first = panels.cell.gate_of_slot[s] * shape.H + panel * panels.unit;
        for (int64_t j = 0; j < panels.units_of(panel); ++j) *rows++ = w + (first + j) * K;
      }
    }
  }

  void pack_rows(const Job& job, int64_t count, int64_t columns, Real* to,
                 int64_t rows_of_panel) const {
    const Range mine = share(panels.columns(columns), job.crew.id, job.crew.size);
    const int64_t stride = rows_of_panel * panels.column;
    if (in_format) return pack_in_format(job, count, columns, to, mine);
    panels.kernels.pack_rows(
        {job.scratch.a, count, columns, to + mine.begin * stride, stride, mine.begin, mine.end});
  }
  // The same into the plan's format, panel by panel by way of plain numbers
  void pack_in_format(const Job& job, int64_t count, int64_t columns, Real* to, Range mine) const {
    const int64_t bytes = panels.format.panel_bytes(count, panels.column);
    char* panel = reinterpret_cast<char*>(to) + mine.begin * bytes;
    for (int64_t i = mine.begin; i < mine.end; ++i, panel += bytes) {
      panels.kernels.pack_rows({job.scratch.a, count, columns, job.scratch.plain, 0, i, i + 1});
      panels.format.pack(job.scratch.plain, count, panels.column, panel);
    }
  }

  // The product of the listed rows with some of the column panels that pack_rows has made, which
  // have n columns in all
  void multiply(const Job& job, int64_t count, const Runs& k, const Real* packed, Range columns,
                int64_t n, bool accumulate) const {
    if (in_format) return multiply_in_format(job, count, k, packed, columns, n, accumulate);
    const Real* first = packed + columns.begin * length_of(k) * panels.column;
    panels.kernels.product({job.scratch.a, count, k, first, columns.begin, columns.end,
                            job.scratch.c, panels.column, n, nullptr, 0, accumulate});
  }
  // A few rows at a time, whose elements stand in a single run then
  void multiply_in_format(const Job& job, int64_t count, const Runs& k, const Real* packed,
                          Range columns, int64_t n, bool accumulate) const {
    const int64_t K = length_of(k);
    const char* first = reinterpret_cast<const char*>(packed) +
                        columns.begin * panels.format.panel_bytes(K, panels.column);
    for (int64_t begin = 0; begin < count; begin += kRowsInFormat) {
      const int64_t rows = std::min(kRowsInFormat, count - begin);
      const Real** a = job.scratch.a + begin;
      if (K != k.run) {
        for (int64_t i = 0; i < rows; ++i) {
          Real* to = job.scratch.gathered + i * K;
          gather(a[i], k, to);
          a[i] = to;
        }
      }
      panels.format.product({a, rows, Runs{K}, first, columns.begin, columns.end,
                             job.scratch.c + begin, panels.column, n, nullptr, 0, accumulate, 0,
                             job.scratch.operands});
    }
  }
  static int64_t length_of(const Runs& k) { return k.run * k.runs + k.tail; }
  static void gather(const Real* from, const Runs& k, Real* to) {
    for (int64_t i = 0; i < k.runs; ++i) to = std::copy_n(from + i * k.jump, k.run, to);
    std::copy_n(from + k.tail_at, k.tail, to);
  }

  // The same product with w as torch keeps it
  void multiply_in_place(const Job& job, int64_t count, const Real* w, Range slots, Range columns,
                         int64_t n, bool accumulate) const {
    list_gate_rows(w, n, slots, job.scratch.b);
    panels.kernels.product_in_place({job.scratch.a, count, pre_runs(slots), job.scratch.b,
                                     columns.begin, columns.end, job.scratch.c, n, accumulate});
  }
};

}  // namespace fastrnn
