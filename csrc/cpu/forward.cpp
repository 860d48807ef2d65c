#include "forward.h"

#include <algorithm>

#include "forward_workspace.h"

namespace fastrnn {
namespace {

template <class Real>
class Forward {
 public:
  Forward(const Plan& plan, const ForwardArgs<Real>& args)
      : plan_(plan),
        batch_(plan.batch),
        shape_(plan.shape),
        args_(args),
        panels_(plan),
        arena_(args.workspace),
        workspace_(plan, arena_),
        saved_arena_(args.saved),
        saved_(plan, saved_arena_),
        seats_(plan.threads, plan.shape.layers) {
    std::fill_n(workspace_.zeros, std::max(shape_.out(), panels_.units), Real{0});
  }

  void operator()(int id, int size) {
    const Crew team = seats_.team(id, size);
    for (int64_t layer = 0; layer < shape_.layers; ++layer) {
      const Sides sides = seats_.sides(layer, id, size, static_cast<int>(shape_.directions));
      for (int64_t d = sides.begin; d < sides.end; ++d)
        run_direction(Job(*this, layer, d, sides.crew, id));
      team.wait();
      if (plan_.states) {
        deliver_states(layer, id, size);
        team.wait();
      }
      if (plan_.dropout && layer + 1 < shape_.layers) {
        drop(layer, id, size);
        team.wait();
      }
    }
    if (plan_.save) deliver(id, size);
    if (batch_.padded()) clear_padding(batch_, args_.y, shape_.directions * shape_.out(), id, size);
  }

 private:
  // One thread's part in one direction of one layer.
  struct Job {
    Job(Forward& pass, int64_t layer, int64_t d, const Crew& crew, int thread)
        : layer(layer),
          reverse(pass.shape_.reversed(d)),
          index(layer * pass.shape_.directions + d),
          in_features(pass.shape_.in(layer)),
          crew(crew),
          dir(pass.workspace_.directions[d]),
          saved(pass.plan_.save ? pass.saved_.directions[index]
                                : typename Saved<Real>::Direction{}),
          weights(pass.args_.weights[index]),
          scratch(pass.workspace_.threads[thread]),
          tickets(pass.tickets_[d]),
          x(pass.input(layer)),
          y(pass.output(layer)) {
      y.base += d * pass.shape_.out();
    }
    int64_t layer;
    bool reverse;
    int64_t index;  // of the (layer, direction)
    int64_t in_features;
    Crew crew;
    const typename ForwardWorkspace<Real>::Direction& dir;
    typename Saved<Real>::Direction saved;
    const Weights<const Real>& weights;
    typename ForwardWorkspace<Real>::Thread scratch;
    Tickets* tickets;  // [2] for pieces of the blocks by turns
    View<const Real> x;
    View<Real> y;

    bool fused = false;
    Split split;
    Rows rows{};                // of the batch
    Range panels{}, columns{};  // gate panels of units, column panels of projected features
    int64_t block_rows = 0;
    Real* projected = nullptr;
  };

  View<Real> output(int64_t layer) const {
    const int64_t width = shape_.directions * shape_.out();
    if (plan_.save) return batch_.stacked_view(saved_.outputs[layer], width);
    return layer + 1 == shape_.layers ? args_.y
                                      : batch_.stacked_view(workspace_.outputs[layer % 2], width);
  }

  View<const Real> input(int64_t layer) const {
    if (layer == 0) return args_.x;
    const View<Real> below = output(layer - 1);
    return {plan_.save ? saved_.dropped[layer - 1] : below.base, below.step, below.row, below.start,
            below.order};
  }

  void run_direction(Job job) {
    const bool once = panels_.reads_weights_once(plan_);
    const int threads = job.crew.size;
    if (once) {
      job.fused = true;
      job.split = {1, threads};
    } else {
      const int64_t panel_bytes = panels_.gate_width * int64_t{sizeof(Real)};
      const Schedule schedule = schedule_forward(panels_.forward_work(plan_, shape_.out()),
                                                 job.in_features, job.in_features * panel_bytes,
                                                 panels_.pre * int64_t{sizeof(Real)}, threads);
      job.fused = schedule.fused;
      job.split = schedule.split;
      pack_weights(job);
    }
    pack_small(job);
    job.crew.wait();
    job.block_rows = workspace_.block_rows / job.split.rows;
    const bool recurs = job.crew.id < job.split.threads();
    const bool helped =
        !job.fused && job.split.threads() < threads && 2 * most_rows(job) <= job.block_rows;
    if (!recurs && !helped) return;
    if (recurs) take_part(job, job.crew.id);
    const Crew members = job.crew.group(job.crew.id / job.split.units, job.split.units);
    if (once) {
      single_step(job, members);
    } else if (helped) {
      recur_with_helpers(job, members, recurs);
    } else {
      recur(job, members);
    }
    if (recurs && job.crew.id % job.split.units == 0) finish(job);
  }

  // The rows and units of the split's i-th thread
  void take_part(Job& job, int i) const {
    const int group = i / job.split.units, part = i % job.split.units;
    job.rows = {group, job.split.rows};
    job.panels = share(panels_.gates, part, job.split.units);
    job.columns = share(panels_.columns(shape_.P), part, job.split.units);
    job.projected = job.dir.projected + group * job.block_rows * panels_.pre;
  }
  // How many rows any thread has at any step
  int64_t most_rows(const Job& job) const { return Rows{0, job.split.rows}.count(batch_.B()); }

  void pack_gates(const Real* w, int64_t K, int slot, int gates, Range panels, Real* to) const {
    panels_.kernels.pack_gates({w, shape_.H, K, gates, panels_.cell.gate_of_slot + slot,
                                panels_.unit, to, panels.begin, panels.end});
  }
  void pack_w_ih(const Job& job, Range panels, Real* to) const {
    const CellKernels<Real>& cell = panels_.cell;
    pack_gates(job.weights.w_ih, job.in_features, cell.input_slot, cell.gates, panels, to);
  }
  void pack_w_hh(const Job& job, Range panels, Real* to) const {
    const CellKernels<Real>& cell = panels_.cell;
    pack_gates(job.weights.w_hh, shape_.out(), cell.hidden_slot, cell.hidden_gates, panels, to);
  }
  Real* w_ih_panel(const Job& job, int64_t panel) const {
    return job.dir.w_ih + panel * job.in_features * panels_.gate_width;
  }
  Real* w_hh_panel(const Job& job, int64_t panel) const {
    return job.dir.w_hh + panel * shape_.out() * panels_.hidden_width;
  }
  Real* w_last_panel(const Job& job, int64_t panel) const {
    return job.dir.w_last + panel * shape_.H * panels_.unit;
  }
  Real* w_hr_panel(const Job& job, int64_t panel) const {
    return job.dir.w_hr + panel * shape_.H * panels_.column;
  }

  void pack_weights(const Job& job) const {
    const Range mine = share(panels_.gates, job.crew.id, job.crew.size);
    pack_w_ih(job, mine, w_ih_panel(job, mine.begin));
    pack_w_hh(job, mine, w_hh_panel(job, mine.begin));
    if (!panels_.cell.two_stages()) return;
    pack_gates(job.weights.w_hh, shape_.H, panels_.cell.last_slot(), 1, mine,
               w_last_panel(job, mine.begin));
  }

  // What every way of running needs: bias, peepholes, projection, initial cell state
  void pack_small(const Job& job) const {
    const Range gates = share(panels_.gates, job.crew.id, job.crew.size);
    pack_bias(job, gates);
    if (shape_.variant.peepholes)
      panels_.pack_peepholes(shape_, job.weights.w_ch, gates, job.dir.peepholes);
    if (shape_.P) {
      const int gate = 0;
      const Range mine = share(panels_.columns(shape_.P), job.crew.id, job.crew.size);
      panels_.kernels.pack_gates({job.weights.w_hr, shape_.P, shape_.H, 1, &gate, panels_.column,
                                  w_hr_panel(job, mine.begin), mine.begin, mine.end});
    }
    if (!panels_.cell.has_cell_state) return;
    const Range rows = share(batch_.B(), job.crew.id, job.crew.size);
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      const int64_t at = job.index * batch_.B() + batch_.entry(r);
      copy_or_zero(args_.c0, at, shape_.H, job.dir.cell + r * panels_.units, panels_.units);
    }
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

  void single_step(const Job& job, const Crew& group) {
    const int64_t count = list_rows(job, 0, 0);
    if (count == 1) {
      panels_.cell.forward_row(
          step_arguments(job, 0, count, job.panels, job.weights.w_ih, job.weights.w_hh));
      return end_step(job, 0, group);
    }
    for (int64_t panel = job.panels.begin; panel < job.panels.end; ++panel) {
      const Range one = {panel, panel + 1};
      pack_w_ih(job, one, job.scratch.w_ih);
      if (hidden_length(job, 0) > 0) pack_w_hh(job, one, job.scratch.w_hh);
      step(job, 0, count, one, job.scratch.w_ih, job.scratch.w_hh);
    }
    end_step(job, 0, group);
  }

  // From here on the rest of the group may read this step's output.
  void end_step(const Job& job, int64_t t, const Crew& group) {
    group.wait();
    if (shape_.P) {
      project_hidden(job, t);
      group.wait();
    }
  }

  // Steps are counted in the order of travel from here on; this is the one in time.
  int64_t time_of(const Job& job, int64_t s) const { return job.reverse ? batch_.T() - 1 - s : s; }

  void recur(const Job& job, const Crew& group) {
    for (int64_t s = 0; s < batch_.T();) {
      const int64_t end = job.fused ? batch_.T() : block_end(job, s);
      if (!job.fused) project(job, s, end, 0);
      for (int64_t slot = 0; s < end; ++s) slot += take_step(job, group, time_of(job, s), slot);
    }
  }

  // Where the recurrence has parts for some threads only, the others project the input of the next
  // block meanwhile, and those join them when they are done with the present one. Blocks take the
  // two halves of the room and the two rolls of tickets by turns.
  void recur_with_helpers(const Job& job, const Crew& group, bool recurs) {
    const int64_t T = batch_.T(), room = job.block_rows / 2, rows = most_rows(job);
    const int64_t length = std::min(std::max<int64_t>(T / 4, 64), room / rows);
    const int64_t piece = std::max<int64_t>(1, 4 * panels_.cell.tallest / rows);
    for (int64_t begin = -length, block = 1; begin < T; begin += length, block = 1 - block) {
      const int64_t next = begin + length, end = std::min(T, next);
      if (recurs) {
        int64_t slot = block * room;
        for (int64_t s = std::max<int64_t>(0, begin); s < end; ++s)
          slot += take_step(job, group, time_of(job, s), slot);
      }
      if (next < T) {
        project_pieces(job, next, std::min(T, next + length), piece, (1 - block) * room,
                       job.tickets[1 - block]);
      }
      if (job.crew.id == 0) job.tickets[block].reset();
      job.crew.wait();
    }
  }

  // A piece is a few steps of one thread's rows and units.
  void project_pieces(const Job& job, int64_t begin, int64_t end, int64_t piece, int64_t slot,
                      Tickets& tickets) {
    const int parts = job.split.threads();
    Job part = job;
    for (int64_t ticket = tickets.take();; ticket = tickets.take()) {
      const int64_t first = begin + ticket / parts * piece;
      if (first >= end) return;
      take_part(part, static_cast<int>(ticket % parts));
      int64_t before = 0;
      for (int64_t s = begin; s < first; ++s)
        before += part.rows.count(batch_.active(time_of(job, s)));
      project(part, first, std::min(end, first + piece), slot + before);
    }
  }

  int64_t take_step(const Job& job, const Crew& group, int64_t t, int64_t slot) {
    const int64_t count = list_rows(job, t, slot);
    step(job, t, count, job.panels, w_ih_panel(job, job.panels.begin),
         w_hh_panel(job, job.panels.begin));
    if (panels_.cell.two_stages()) {
      group.wait();
      panels_.cell.forward_last(
          step_arguments(job, t, count, job.panels, nullptr, w_last_panel(job, job.panels.begin)));
    }
    end_step(job, t, group);
    return count;
  }

  // As many steps as a block has room for, at least one
  int64_t block_end(const Job& job, int64_t begin) const {
    int64_t count = 0, s = begin;
    for (; s < batch_.T(); ++s) {
      count += job.rows.count(batch_.active(time_of(job, s)));
      if (s > begin && count > job.block_rows) break;
    }
    return s;
  }

  // x * w_ih^T and the bias for a thread's rows and units of some steps; slots in the order of
  // travel.
  void project(const Job& job, int64_t begin, int64_t end, int64_t slot) {
    int64_t count = 0;
    for (int64_t s = begin; s < end; ++s) {
      const int64_t t = time_of(job, s), active = batch_.active(t);
      for (int64_t r = job.rows.first; r < active; r += job.rows.stride, ++count) {
        job.scratch.a[count] = job.x.at(t, r);
        job.scratch.c[count] = projected(job, slot + count);
      }
    }
    const Real* init = job.dir.bias + panels_.cell.input_slot * panels_.unit;
    panels_.cell.project({job.scratch.a, count, job.in_features, 1, 0,
                          w_ih_panel(job, job.panels.begin), job.panels.begin, job.panels.end,
                          job.scratch.c, projected_panel(job), panels_.pre, init, panels_.width,
                          false});
  }

  int64_t projected_panel(const Job& job) const { return job.block_rows * panels_.gate_width; }
  Real* projected(const Job& job, int64_t slot) const {
    return job.projected + slot * panels_.gate_width;
  }

  // Where everything lies for the rows of one step; their projected input from `slot` on. Returns
  // their number.
  int64_t list_rows(const Job& job, int64_t t, int64_t slot) const {
    ForwardRow<Real>* row = job.scratch.rows;
    const int64_t active = batch_.active(t);
    for (int64_t r = job.rows.first; r < active; r += job.rows.stride, ++row, ++slot) {
      const int64_t before = batch_.previous(job.reverse, t, r);
      row->x = job.fused ? job.x.at(t, r) : projected(job, slot);
      row->h_prev = hidden_of(job, before, r);
      row->h = shape_.P ? raw(job, t, r) : job.y.at(t, r);
      row->saved = gates(job, t, r);
      if (panels_.cell.two_stages()) row->reset_hidden = raw(job, t, r);
      if (!panels_.cell.has_cell_state) continue;
      row->c = cell_state(job, t, r);
      row->c_prev = cell_of(job, before, r);
    }
    return row - job.scratch.rows;
  }

  // How much of the state before is multiplied: nothing at a direction's first step, whose rows all
  // begin there, if the caller gave no state.
  int64_t hidden_length(const Job& job, int64_t t) const {
    const int64_t first = job.reverse ? batch_.T() - 1 : 0;
    return t == first && !args_.h0 ? 0 : shape_.out();
  }

  // Odd steps walk the panels backwards, and so begin with those that are in cache still.
  ForwardStep<Real> step_arguments(const Job& job, int64_t t, int64_t count, Range panels,
                                   const Real* w_ih, const Real* w_hh) const {
    return {job.scratch.rows,
            count,
            shape_.H,
            hidden_length(job, t),
            job.fused ? job.in_features : 0,
            projected_panel(job),
            job.dir.bias,
            w_ih,
            w_hh,
            panels.begin,
            panels.end,
            t % 2 != 0,
            &shape_.variant,
            job.dir.peepholes};
  }
  void step(const Job& job, int64_t t, int64_t count, Range panels, const Real* w_ih,
            const Real* w_hh) const {
    panels_.cell.forward(step_arguments(job, t, count, panels, w_ih, w_hh));
  }

  // The states of a step, or of what Batch::previous says instead of one
  const Real* hidden_of(const Job& job, int64_t step, int64_t r) const {
    if (step >= 0) return job.y.at(step, r);
    return step == Batch::kZeros ? workspace_.zeros : initial_hidden(job, r);
  }
  const Real* cell_of(const Job& job, int64_t step, int64_t r) const {
    if (step >= 0) return cell_state(job, step, r);
    return step == Batch::kZeros ? workspace_.zeros : job.dir.cell + r * panels_.units;
  }

  const Real* initial_hidden(const Job& job, int64_t r) const {
    return args_.h0 ? args_.h0 + (job.index * batch_.B() + batch_.entry(r)) * shape_.out()
                    : workspace_.zeros;
  }
  Real* cell_state(const Job& job, int64_t t, int64_t r) const {
    Real* all = cells(job.index);
    return all ? all + (batch_.start(t) + r) * panels_.units : job.dir.cell + r * panels_.units;
  }
  // The cell states of all steps, or null where they are not kept
  Real* cells(int64_t index) const {
    return plan_.save ? saved_.directions[index].cell
                      : workspace_.directions[index % shape_.directions].cells;
  }
  // A row's gates, or null where nobody will read them
  Real* gates(const Job& job, int64_t t, int64_t r) const {
    const int64_t size = panels_.gates * panels_.width;
    if (!plan_.save) return job.dir.gates ? job.dir.gates + r * size : nullptr;
    return panels_.cell.saves_gates ? job.saved.gates + (batch_.start(t) + r) * size : nullptr;
  }
  Real* raw(const Job& job, int64_t t, int64_t r) const {
    return plan_.save ? job.saved.raw + (batch_.start(t) + r) * shape_.H
                      : job.dir.raw + r * shape_.H;
  }

  // y = h * w_hr^T
  void project_hidden(const Job& job, int64_t t) {
    int64_t count = 0;
    for (int64_t r = job.rows.first; r < batch_.active(t); r += job.rows.stride, ++count) {
      job.scratch.a[count] = raw(job, t, r);
      job.scratch.c[count] = job.y.at(t, r);
    }
    panels_.kernels.product({job.scratch.a, count, shape_.H, 1, 0,
                             w_hr_panel(job, job.columns.begin), job.columns.begin, job.columns.end,
                             job.scratch.c, panels_.column, shape_.P, nullptr, 0, false});
  }

  void finish(const Job& job) {
    for (int64_t r = job.rows.first; r < batch_.B(); r += job.rows.stride) {
      const int64_t at = job.index * batch_.B() + batch_.entry(r);
      const int64_t last = job.reverse ? 0 : batch_.length(r) - 1;
      const bool moved = batch_.length(r) > 0;
      std::copy_n(moved ? job.y.at(last, r) : initial_hidden(job, r), shape_.out(),
                  args_.h_n + at * shape_.out());
      if (!panels_.cell.has_cell_state) continue;
      std::copy_n(moved ? cell_state(job, last, r) : job.dir.cell + r * panels_.units, shape_.H,
                  args_.c_n + at * shape_.H);
    }
  }

  void drop(int64_t layer, int id, int size) {
    const View<Real> from = output(layer);
    Real* to = plan_.save ? saved_.dropped[layer] : from.base;
    const Real* mask = args_.masks[layer];
    const Range mine = share(batch_.rows() * from.row, id, size);
    for (int64_t i = mine.begin; i < mine.end; ++i) to[i] = from.base[i] * mask[i];
  }

  // The last layer's output, from what is kept to the caller's tensor
  void deliver(int id, int size) const {
    const int64_t width = shape_.directions * shape_.out();
    copy_rows(output(shape_.layers - 1), width, args_.y, id, size);
  }

  // A layer's states after every step, to the caller's tensors
  void deliver_states(int64_t layer, int id, int size) const {
    for (int64_t d = 0; d < shape_.directions; ++d) {
      const int64_t index = layer * shape_.directions + d;
      View<Real> h = output(layer);
      h.base += d * shape_.out();
      deliver_state(h, shape_.out(), args_.h_all, index, id, size);
      if (!panels_.cell.has_cell_state) continue;
      const View<Real> c = batch_.stacked_view(cells(index), panels_.units);
      deliver_state(c, shape_.H, args_.c_all, index, id, size);
    }
  }
  void deliver_state(const View<Real>& from, int64_t width, Real* all, int64_t index, int id,
                     int size) const {
    const View<Real> to = states_view(batch_, all, index, width);
    copy_rows(from, width, to, id, size);
    clear_padding(batch_, to, width, id, size);
  }

  // By turns of steps, which shares a ragged batch evenly
  void copy_rows(const View<Real>& from, int64_t width, const View<Real>& to, int id,
                 int size) const {
    for (int64_t t = id; t < batch_.T(); t += size) {
      for (int64_t r = 0; r < batch_.active(t); ++r) std::copy_n(from.at(t, r), width, to.at(t, r));
    }
  }

  const Plan& plan_;
  const Batch& batch_;
  const Shape& shape_;
  const ForwardArgs<Real>& args_;
  const Panels<Real> panels_;
  Arena arena_;
  const ForwardWorkspace<Real> workspace_;
  Arena saved_arena_;
  const Saved<Real> saved_;
  Seats seats_;
  Tickets tickets_[2][2];  // [directions][blocks by turns]
};

}  // namespace

template <class Real>
void forward(const Plan& plan, const ForwardArgs<Real>& args) {
  Forward<Real> pass(plan, args);
  run_team(plan.threads, pass);
}

template <class Real>
int64_t forward_workspace_bytes(const Plan& plan) {
  Arena arena(nullptr);
  ForwardWorkspace<Real> layout(plan, arena);
  return arena.bytes();
}

template void forward(const Plan&, const ForwardArgs<float>&);
template void forward(const Plan&, const ForwardArgs<double>&);
template int64_t forward_workspace_bytes<float>(const Plan&);
template int64_t forward_workspace_bytes<double>(const Plan&);

}  // namespace fastrnn
