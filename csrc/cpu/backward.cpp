#include "backward.h"

#include <algorithm>

#include "backward_workspace.h"

namespace fastrnn {
namespace {

template <class Real>
class Backward {
 public:
  Backward(const Plan& plan, const BackwardArgs<Real>& args)
      : plan_(plan),
        batch_(plan.batch),
        shape_(plan.shape),
        args_(args),
        panels_(plan),
        arena_(args.workspace),
        workspace_(plan, arena_),
        saved_arena_(const_cast<char*>(args.saved)),
        saved_(plan, saved_arena_),
        in_place_(panels_.reads_weights_in_place(plan)),
        lowest_(lowest_layer()),
        seats_(plan.threads, plan.shape.layers) {
    std::fill_n(workspace_.zeros, std::max(shape_.out(), panels_.units), Real{0});
  }

  void operator()(int id, int size) {
    const Crew team = seats_.team(id, size);
    for (int64_t layer = shape_.layers - 1; layer >= lowest_; --layer) {
      const Sides sides = seats_.sides(layer, id, size, static_cast<int>(shape_.directions));
      for (int64_t d = sides.begin; d < sides.end; ++d)
        run_direction(Job(*this, layer, d, sides.crew, id));
      team.wait();
      if (wants_input_gradient(layer) && (shape_.directions == 2 || (layer > 0 && plan_.dropout))) {
        combine_input_gradient(layer, share(batch_.rows(), id, size));
        team.wait();
      }
    }
    if (args_.d_x && batch_.padded()) clear_padding(batch_, args_.d_x, shape_.I, id, size);
  }

 private:
  // One thread's part in one direction of one layer.
  struct Job {
    Job(Backward& pass, int64_t layer, int64_t d, const Crew& crew, int thread)
        : layer(layer),
          reverse(pass.shape_.reversed(d)),
          index(layer * pass.shape_.directions + d),
          in_features(pass.shape_.in(layer)),
          crew(crew),
          dir(pass.workspace_.directions[d]),
          saved(pass.saved_.directions[index]),
          weights(pass.args_.weights[index]),
          d_weights(pass.args_.d_weights[index]),
          scratch(pass.workspace_.threads[thread]),
          x(pass.input(layer)),
          y(pass.output(layer)),
          d_y(pass.output_gradient(layer)),
          d_h_all(states_view(pass.batch_, pass.args_.d_h_all, index, pass.shape_.out())),
          d_c_all(states_view(pass.batch_, pass.args_.d_c_all, index, pass.shape_.H)) {
      const int64_t offset = d * pass.shape_.out();
      y.base += offset;
      if (d_y) d_y.base += offset;
      if (pass.wants_input_gradient(layer)) {
        d_x = d == 0 ? pass.input_gradient(layer) : pass.batch_.stacked_view(dir.d_x, in_features);
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
    View<const Real> x, y, d_y, d_h_all, d_c_all;
    View<Real> d_x;

    Split split;
    Rows rows{};  // of the batch, in the recurrence
    Range gates{},
        columns{};  // gate panels and column panels of the same units (of H, and of the output)
  };

  // A time block: steps begin .. end, rows stacked from `start`.
  struct Block {
    int64_t begin, end;
    int64_t start, rows;
    bool first;  // of those that this direction works through
  };

  // ---- what lies where ----

  View<const Real> output(int64_t layer) const {
    return batch_.template stacked_view<const Real>(saved_.outputs[layer],
                                                    shape_.directions * shape_.out());
  }
  View<const Real> input(int64_t layer) const {
    if (layer == 0) return args_.x;
    return batch_.template stacked_view<const Real>(saved_.dropped[layer - 1],
                                                    shape_.directions * shape_.out());
  }
  View<const Real> output_gradient(int64_t layer) const {
    if (layer + 1 == shape_.layers) return args_.d_y;
    return batch_.template stacked_view<const Real>(workspace_.d_outputs[layer % 2],
                                                    shape_.directions * shape_.out());
  }
  View<Real> input_gradient(int64_t layer) const {
    if (layer == 0) return args_.d_x;
    return batch_.stacked_view(workspace_.d_outputs[(layer - 1) % 2], shape_.in(layer));
  }

  // Layers below the lowest that anyone asks about are left out.
  int64_t lowest_layer() const {
    if (args_.d_x || args_.d_h0 || args_.d_c0) return 0;
    for (int64_t i = 0; i < shape_.layers * shape_.directions; ++i) {
      const Weights<Real>& d = args_.d_weights[i];
      if (d.w_ih || d.w_hh || d.b_ih || d.b_hh || d.w_hr || d.w_ch) return i / shape_.directions;
    }
    return shape_.layers;
  }
  bool wants_input_gradient(int64_t layer) const {
    return layer > lowest_ || (layer == 0 && args_.d_x);
  }

  int64_t state_row(const Job& job, int64_t r) const {
    return job.index * batch_.B() + batch_.entry(r);
  }
  const Real* hidden_before(const Job& job, int64_t t, int64_t r) const {
    const int64_t before = batch_.previous(job.reverse, t, r);
    if (before >= 0) return job.y.at(before, r);
    const bool starts = before == Batch::kInitial && args_.h0;
    return starts ? args_.h0 + state_row(job, r) * shape_.out() : workspace_.zeros;
  }
  const Real* cell_before(const Job& job, int64_t t, int64_t r) const {
    const int64_t before = batch_.previous(job.reverse, t, r);
    if (before >= 0) return job.saved.cell + (batch_.start(before) + r) * panels_.units;
    return before == Batch::kInitial ? job.dir.cell + r * panels_.units : workspace_.zeros;
  }
  Real* d_pre(const Job& job, const Block& block, int64_t t, int64_t r) const {
    return job.dir.d_pre + (batch_.start(t) - block.start + r) * panels_.width;
  }
  int64_t d_pre_panel() const { return workspace_.block_rows * panels_.width; }

  // Which slots of d_pre meet which weights, and the length of a product over them
  Range input_slots() const {
    return {panels_.cell.input_slot, panels_.cell.input_slot + panels_.cell.gates};
  }
  Range hidden_slots() const {
    return {panels_.cell.hidden_slot, panels_.cell.hidden_slot + panels_.cell.hidden_gates};
  }
  Range last_slot() const { return {panels_.cell.last_slot(), panels_.cell.last_slot() + 1}; }
  int64_t pre_length(Range slots) const {
    return panels_.gates * (slots.end - slots.begin) * panels_.unit;
  }
  Real* d_h(const Job& job, int64_t r) const {
    return job.dir.d_h + r * panels_.padded(shape_.out());
  }
  Real* d_c(const Job& job, int64_t r) const { return job.dir.d_c + r * panels_.units; }
  Real* d_raw(const Job& job, int64_t r) const {
    return job.dir.d_raw + r * panels_.padded(shape_.H);
  }
  Real* d_projected(const Job& job, const Block& block, int64_t t, int64_t r) const {
    return job.dir.d_y + (batch_.start(t) - block.start + r) * panels_.padded(shape_.P);
  }

  // ---- one direction ----

  void run_direction(Job job) {
    pack_weights(job);
    start_states(job);
    job.crew.wait();
    job.split = schedule_step(panels_.backward_work(plan_), job.crew.size).split;
    const int group = job.crew.id / job.split.units;
    const int part = job.crew.id % job.split.units;
    const bool recurs = job.crew.id < job.split.threads();
    if (recurs) {
      job.rows = {group, job.split.rows};
      job.columns = share(panels_.columns(shape_.out()), part, job.split.units);
      job.gates = gates_of(share(panels_.columns(shape_.H), part, job.split.units));
    }
    const std::vector<int64_t>& first = workspace_.blocks;
    const int64_t blocks = static_cast<int64_t>(first.size()) - 1;
    for (int64_t i = 0; i < blocks; ++i) {
      const int64_t at = job.reverse ? i : blocks - 1 - i;
      const int64_t start = batch_.start(first[at]);
      const Block block = {first[at], first[at + 1], start, batch_.start(first[at + 1]) - start,
                           i == 0};
      if (recurs) recur(job, job.crew.group(group, job.split.units), block);
      job.crew.wait();
      pack_block(job, block);
      if (job.d_x) multiply_to_input(job, block);
      job.crew.wait();
      accumulate_weights(job, block);
      job.crew.wait();
    }
    finish(job);
  }

  // The same units as some column panels hold, in gate panels
  Range gates_of(Range columns) const {
    const int64_t per_column = panels_.column / panels_.unit;
    return {std::min(panels_.gates, columns.begin * per_column),
            std::min(panels_.gates, columns.end * per_column)};
  }

  // Rows of w in the order of the d_pre that they meet: [gate panel][gate][unit], null where a
  // panel has no unit.
  void list_gate_rows(const Real* w, int64_t K, Range slots, const Real** rows) const {
    for (int64_t panel = 0; panel < panels_.gates; ++panel) {
      for (int64_t s = slots.begin; s < slots.end; ++s) {
        for (int64_t j = 0; j < panels_.unit; ++j) {
          const int64_t unit = panel * panels_.unit + j;
          *rows++ =
              unit < shape_.H ? w + (panels_.cell.gate_of_slot[s] * shape_.H + unit) * K : nullptr;
        }
      }
    }
  }

  void pack_rows(const Job& job, int64_t count, int64_t columns, Real* to,
                 int64_t rows_of_panel) const {
    const Range mine = share(panels_.columns(columns), job.crew.id, job.crew.size);
    const int64_t stride = rows_of_panel * panels_.column;
    panels_.kernels.pack_rows(
        {job.scratch.a, count, columns, to + mine.begin * stride, stride, mine.begin, mine.end});
  }

  void pack_gate_rows(const Job& job, const Real* w, int64_t K, Range slots, Real* to) const {
    list_gate_rows(w, K, slots, job.scratch.a);
    const int64_t rows = pre_length(slots);
    pack_rows(job, rows, K, to, rows);
  }

  void pack_weights(const Job& job) const {
    if (!in_place_ && (batch_.T() > 1 || args_.d_h0))
      pack_gate_rows(job, job.weights.w_hh, shape_.out(), hidden_slots(), job.dir.w_hh);
    if (panels_.cell.two_stages())
      pack_gate_rows(job, job.weights.w_hh, shape_.H, last_slot(), job.dir.w_last);
    if (!in_place_ && job.d_x)
      pack_gate_rows(job, job.weights.w_ih, job.in_features, input_slots(), job.dir.w_ih);
    if (shape_.P) {
      for (int64_t p = 0; p < shape_.P; ++p) job.scratch.a[p] = job.weights.w_hr + p * shape_.H;
      pack_rows(job, shape_.P, shape_.H, job.dir.w_hr, shape_.P);
    }
  }

  void start_states(const Job& job) const {
    if (shape_.variant.peepholes) {
      panels_.pack_peepholes(shape_, job.weights.w_ch,
                             share(panels_.gates, job.crew.id, job.crew.size), job.dir.peepholes);
    }
    const Range rows = share(batch_.B(), job.crew.id, job.crew.size);
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      const int64_t at = state_row(job, r);
      copy_or_zero(args_.d_h_n, at, shape_.out(), d_h(job, r), panels_.padded(shape_.out()));
      if (job.dir.d_raw) std::fill_n(d_raw(job, r), panels_.padded(shape_.H), Real{0});
      if (!panels_.cell.has_cell_state) continue;
      copy_or_zero(args_.d_c_n, at, shape_.H, d_c(job, r), panels_.units);
      copy_or_zero(args_.c0, at, shape_.H, job.dir.cell + r * panels_.units, panels_.units);
    }
  }

  // ---- the recurrence ----

  void recur(const Job& job, const Crew& group, const Block& block) const {
    for (int64_t s = block.begin; s < block.end; ++s) {
      const int64_t t = job.reverse ? s : block.begin + block.end - 1 - s;
      if (shape_.P) {
        collect_projected(job, block, t);
        group.wait();
        unproject(job, block, t);
      }
      const BackwardStep<Real> step = differentiate_cell(job, block, t);
      group.wait();
      if (panels_.cell.two_stages()) {
        multiply_to_reset(job, block, t);
        panels_.cell.backward_last(step);
        group.wait();
      }
      const bool last = t == (job.reverse ? batch_.T() - 1 : 0);
      if (!last || args_.d_h0) multiply_to_hidden(job, block, t);
      if (batch_.has_resets()) stop_at_resets(job, t);
    }
  }

  // Calls visit(i, r) for the i-th row r of this thread's that is active at step t; returns how
  // many there are.
  template <class Visit>
  int64_t each_active_row(const Job& job, int64_t t, Visit visit) const {
    int64_t i = 0;
    const int64_t active = batch_.active(t);
    for (int64_t r = job.rows.first; r < active; r += job.rows.stride) visit(i++, r);
    return i;
  }

  // Gradient of the projection's output: from the step after and from above
  void collect_projected(const Job& job, const Block& block, int64_t t) const {
    const int64_t begin = job.columns.begin * panels_.column;
    const int64_t end = std::min(job.columns.end * panels_.column, shape_.P);
    each_active_row(job, t, [&](int64_t, int64_t r) {
      const Real* from = d_h(job, r);
      Real* to = d_projected(job, block, t, r);
      for (int64_t p = begin; p < end; ++p)
        to[p] = from[p] + (job.d_y ? job.d_y.at(t, r)[p] : Real{0});
      if (job.d_h_all) add(job.d_h_all.at(t, r), {begin, end}, to);
    });
  }

  static void add(const Real* from, Range mine, Real* to) {
    for (int64_t i = mine.begin; i < mine.end; ++i) to[i] += from[i];
  }

  void unproject(const Job& job, const Block& block, int64_t t) const {
    const int64_t count = each_active_row(job, t, [&](int64_t i, int64_t r) {
      job.scratch.a[i] = d_projected(job, block, t, r);
      job.scratch.c[i] = d_raw(job, r);
    });
    const int64_t per_column = panels_.column / panels_.unit;
    const Range columns = {job.gates.begin / per_column,
                           (job.gates.end + per_column - 1) / per_column};
    panels_.kernels.product({job.scratch.a, count, shape_.P, 1, 0,
                             job.dir.w_hr + columns.begin * shape_.P * panels_.column,
                             columns.begin, columns.end, job.scratch.c, panels_.column, shape_.H,
                             nullptr, 0, false});
  }

  BackwardStep<Real> differentiate_cell(const Job& job, const Block& block, int64_t t) const {
    const Range units = {job.gates.begin * panels_.unit,
                         std::min(job.gates.end * panels_.unit, shape_.H)};
    const int64_t count = each_active_row(job, t, [&](int64_t i, int64_t r) {
      BackwardRow<Real>* row = job.scratch.rows + i;
      const int64_t stacked = batch_.start(t) + r;
      row->saved = job.saved.gates + stacked * panels_.gates * panels_.width;
      row->h = job.y.at(t, r);
      row->h_prev = hidden_before(job, t, r);
      row->d_y = job.d_y && !shape_.P ? job.d_y.at(t, r) : nullptr;
      row->d_h = shape_.P ? d_raw(job, r) : d_h(job, r);
      row->d_pre = d_pre(job, block, t, r);
      if (panels_.cell.two_stages()) row->d_reset = d_raw(job, r);
      if (job.d_h_all && !shape_.P) add(job.d_h_all.at(t, r), units, row->d_h);
      if (!panels_.cell.has_cell_state) return;
      row->c = job.saved.cell + stacked * panels_.units;
      row->c_prev = cell_before(job, t, r);
      row->d_c = d_c(job, r);
      if (job.d_c_all) add(job.d_c_all.at(t, r), units, row->d_c);
    });
    const BackwardStep<Real> step = {
        job.scratch.rows, count,         shape_.H,        d_pre_panel(),
        job.gates.begin,  job.gates.end, &shape_.variant, job.dir.peepholes};
    panels_.cell.backward(step);
    return step;
  }

  // The gradient of r * h_prev, for the second stage
  void multiply_to_reset(const Job& job, const Block& block, int64_t t) const {
    const int64_t count = each_active_row(job, t, [&](int64_t i, int64_t r) {
      job.scratch.a[i] = d_pre(job, block, t, r) + last_slot().begin * panels_.unit;
      job.scratch.c[i] = d_raw(job, r);
    });
    panels_.kernels.product(
        pre_product(job, count, job.dir.w_last, last_slot(), job.columns, shape_.H, false));
  }

  // Slots of d_pre of a row as the left-hand operand of a product with their weights
  Product<Real> pre_product(const Job& job, int64_t count, const Real* w, Range slots,
                            Range columns, int64_t n, bool accumulate) const {
    const Real* panels = w + columns.begin * pre_length(slots) * panels_.column;
    return {job.scratch.a,
            count,
            (slots.end - slots.begin) * panels_.unit,
            panels_.gates,
            d_pre_panel(),
            panels,
            columns.begin,
            columns.end,
            job.scratch.c,
            panels_.column,
            n,
            nullptr,
            0,
            accumulate};
  }

  // The same product with w as torch keeps it
  void multiply_in_place(const Job& job, int64_t count, const Real* w, Range slots, Range columns,
                         int64_t n, bool accumulate) const {
    list_gate_rows(w, n, slots, job.scratch.b);
    panels_.kernels.product_in_place({job.scratch.a, count, panels_.gate_width, panels_.gates,
                                      d_pre_panel(), job.scratch.b, columns.begin, columns.end,
                                      job.scratch.c, n, accumulate});
  }

  void multiply_to_hidden(const Job& job, const Block& block, int64_t t) const {
    const int64_t count = each_active_row(job, t, [&](int64_t i, int64_t r) {
      job.scratch.a[i] = d_pre(job, block, t, r) + panels_.cell.hidden_slot * panels_.unit;
      job.scratch.c[i] = d_h(job, r);
    });
    const bool accumulate = panels_.cell.reads_previous_hidden;
    if (in_place_) {
      return multiply_in_place(job, count, job.weights.w_hh, hidden_slots(), job.columns,
                               shape_.out(), accumulate);
    }
    panels_.kernels.product(pre_product(job, count, job.dir.w_hh, hidden_slots(), job.columns,
                                        shape_.out(), accumulate));
  }

  // Nothing flows back to the step that a row was reset after.
  void stop_at_resets(const Job& job, int64_t t) const {
    const auto clear = [](Real* gradient, Range panels, int64_t width) {
      std::fill(gradient + panels.begin * width, gradient + panels.end * width, Real{0});
    };
    each_active_row(job, t, [&](int64_t, int64_t r) {
      if (batch_.previous(job.reverse, t, r) != Batch::kZeros) return;
      clear(d_h(job, r), job.columns, panels_.column);
      if (panels_.cell.has_cell_state) clear(d_c(job, r), job.gates, panels_.unit);
    });
  }

  // ---- what follows from a block of d_pre ----

  template <class Visit>
  void each_row(const Block& block, Visit visit) const {
    int64_t i = 0;
    for (int64_t t = block.begin; t < block.end; ++t) {
      for (int64_t r = 0; r < batch_.active(t); ++r) visit(i++, t, r);
    }
  }

  void pack_block(const Job& job, const Block& block) const {
    const Real** rows = job.scratch.a;
    if (job.d_weights.w_ih) {
      each_row(block, [&](int64_t i, int64_t t, int64_t r) { rows[i] = job.x.at(t, r); });
      pack_rows(job, block.rows, job.in_features, job.dir.x, block.rows);
    }
    if (job.d_weights.w_hh) {
      each_row(block, [&](int64_t i, int64_t t, int64_t r) { rows[i] = hidden_before(job, t, r); });
      pack_rows(job, block.rows, shape_.out(), job.dir.h, block.rows);
    }
    if (job.d_weights.w_hr || (job.d_weights.w_hh && panels_.cell.two_stages())) {
      for (int64_t i = 0; i < block.rows; ++i)
        rows[i] = job.saved.raw + (block.start + i) * shape_.H;
      pack_rows(job, block.rows, shape_.H, job.dir.raw, block.rows);
    }
  }

  void multiply_to_input(const Job& job, const Block& block) const {
    const Range all = {0, panels_.columns(job.in_features)};
    const Range mine =
        in_place_ ? Range{0, block.rows} : share(block.rows, job.crew.id, job.crew.size);
    each_row(block, [&](int64_t i, int64_t t, int64_t r) {
      if (i < mine.begin || i >= mine.end) return;
      job.scratch.a[i - mine.begin] =
          d_pre(job, block, t, r) + panels_.cell.input_slot * panels_.unit;
      job.scratch.c[i - mine.begin] = job.d_x.at(t, r);
    });
    if (in_place_) {
      return multiply_in_place(job, block.rows, job.weights.w_ih, input_slots(),
                               share(all.end, job.crew.id, job.crew.size), job.in_features, false);
    }
    panels_.kernels.product(pre_product(job, mine.end - mine.begin, job.dir.w_ih, input_slots(),
                                        all, job.in_features, false));
  }

  // Calls visit(d_pre, rows, at, slot) for this thread's share of the slots' units: a panel's
  // gradients, how many units it has, and where their rows stand in a weight matrix.
  template <class Visit>
  void each_gate(const Job& job, Range slots, Visit visit) const {
    const Range mine = share(panels_.gates, job.crew.id, job.crew.size);
    for (int64_t panel = mine.begin; panel < mine.end; ++panel) {
      const int64_t unit = panel * panels_.unit;
      for (int64_t s = slots.begin; s < slots.end; ++s) {
        visit(job.dir.d_pre + panel * d_pre_panel() + s * panels_.unit,
              std::min(panels_.unit, shape_.H - unit),
              panels_.cell.gate_of_slot[s] * shape_.H + unit);
      }
    }
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
    weight(d.w_ih, job.dir.x, job.in_features, input_slots());
    weight(d.w_hh, job.dir.h, shape_.out(), hidden_slots());
    if (panels_.cell.two_stages()) weight(d.w_hh, job.dir.raw, shape_.H, last_slot());
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

  // i, f and g have seen the cell state of before, o the new one.
  void accumulate_peepholes(const Job& job, const Block& block) const {
    const Real** c_prev = job.scratch.a;
    const Real** c = job.scratch.b;
    each_row(block, [&](int64_t i, int64_t t, int64_t r) {
      c_prev[i] = cell_before(job, t, r);
      c[i] = job.saved.cell + (batch_.start(t) + r) * panels_.units;
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

  void finish(const Job& job) const {
    const Range rows = share(batch_.B(), job.crew.id, job.crew.size);
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      if (args_.d_h0)
        std::copy_n(d_h(job, r), shape_.out(), args_.d_h0 + state_row(job, r) * shape_.out());
      if (args_.d_c0) std::copy_n(d_c(job, r), shape_.H, args_.d_c0 + state_row(job, r) * shape_.H);
    }
  }

  // The two directions' shares in a fixed order, then the mask of the dropout that the input came
  // through
  void combine_input_gradient(int64_t layer, Range mine) const {
    const int64_t n = shape_.in(layer);
    const View<Real> to = input_gradient(layer);
    const Real* mask = layer > 0 && plan_.dropout ? args_.masks[layer - 1] : nullptr;
    const Real* reverse = shape_.directions == 2 ? workspace_.directions[1].d_x : nullptr;
    for (int64_t t = 0; t < batch_.T(); ++t) {
      const Range rows = {std::max<int64_t>(0, mine.begin - batch_.start(t)),
                          std::min(batch_.active(t), mine.end - batch_.start(t))};
      for (int64_t r = rows.begin; r < rows.end; ++r) {
        Real* row = to.at(t, r);
        const int64_t stacked = (batch_.start(t) + r) * n;
        if (reverse) {
          for (int64_t i = 0; i < n; ++i) row[i] += reverse[stacked + i];
        }
        if (mask) {
          for (int64_t i = 0; i < n; ++i) row[i] *= mask[stacked + i];
        }
      }
    }
  }

  const Plan& plan_;
  const Batch& batch_;
  const Shape& shape_;
  const BackwardArgs<Real>& args_;
  const Panels<Real> panels_;
  Arena arena_;
  const BackwardWorkspace<Real> workspace_;
  Arena saved_arena_;
  const Saved<Real> saved_;
  const bool in_place_;
  const int64_t lowest_;
  Seats seats_;
};

}  // namespace

template <class Real>
void backward(const Plan& plan, const BackwardArgs<Real>& args) {
  Backward<Real> pass(plan, args);
  run_team(plan.threads, pass);
}

template <class Real>
int64_t backward_workspace_bytes(const Plan& plan) {
  Arena arena(nullptr);
  BackwardWorkspace<Real> layout(plan, arena);
  return arena.bytes();
}

template void backward(const Plan&, const BackwardArgs<float>&);
template void backward(const Plan&, const BackwardArgs<double>&);
template int64_t backward_workspace_bytes<float>(const Plan&);
template int64_t backward_workspace_bytes<double>(const Plan&);

}  // namespace fastrnn
