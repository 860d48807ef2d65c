#include "forward.h"

#include <algorithm>

#include "engine/schedule/decide.h"
#include "packing.h"
#include "recurrence.h"

namespace fastrnn {
namespace {

template <class Real>
class Forward {
 public:
  Forward(const Plan& plan, const ForwardArgs<Real>& args)
      : pass_(plan, args),
        batch_(pass_.batch),
        shape_(pass_.shape),
        panels_(pass_.panels),
        packing_(pass_),
        recurrence_(pass_, packing_),
        seats_(plan.threads, plan.shape.layers) {}

  void prepare(int size) { decision_ = decide_forward(pass_.plan, size); }

  void operator()(int id, int size) {
    const Crew team = seats_.team(id, size);
    for (int64_t layer = 0; layer < shape_.layers; ++layer) {
      const LayerDecision& decision = decision_.layer(layer);
      const Sides sides =
          seats_.sides(layer, id, size, static_cast<int>(shape_.directions), decision.crews());
      for (int64_t d = sides.begin; d < sides.end; ++d)
        run_direction(Job(pass_, layer, d, decision.of(d), sides, id));
      team.wait();
      if (pass_.plan.states) {
        deliver_states(layer, id, size);
        team.wait();
      }
      if (pass_.plan.dropout && layer + 1 < shape_.layers) {
        drop(layer, id, size);
        team.wait();
      }
    }
    if (pass_.plan.save) deliver(id, size);
    if (batch_.padded())
      clear_padding(batch_, pass_.args.y, shape_.directions * shape_.out(), id, size);
  }

 private:
  using Job = typename ForwardPass<Real>::Job;

  void run_direction(Job job) {
    const bool once = pass_.plan.weights_once;
    if (!pass_.packed && !once) packing_.pack_weights(job);
    if (!pass_.packed) packing_.pack_small(job);
    packing_.pack_states(job);
    job.crew.wait_evenly();
    const bool recurs = job.crew.id < job.split.threads();
    const bool helped = job.decision.helped_steps > 0;
    if (!recurs && !helped) return;
    if (recurs) pass_.take_part(job, job.crew.id);
    const Crew members =
        job.crew.group(job.crew.id / job.split.units, job.split.units, job.decision.cycles);
    if (once) {
      recurrence_.take_single_step(job, members);
    } else if (helped) {
      recurrence_.take_steps_with_helpers(job, members, recurs);
    } else {
      recurrence_.take_steps(job, members);
    }
    if (!recurs) return;
    if (!panels_.cell.meets) members.wait_evenly();  // as others have done after each step
    if (job.crew.id % job.split.units == 0) finish(job);
  }

  void finish(const Job& job) {
    for (int64_t r = job.rows.first; r < batch_.B(); r += job.rows.stride) {
      const int64_t at = job.index * batch_.B() + batch_.entry(r);
      const int64_t last = job.reverse ? 0 : batch_.length(r) - 1;
      const bool moved = batch_.length(r) > 0;
      for (int s = 0; s < panels_.cell.states; ++s) {
        std::copy_n(moved ? job.states[s].at(last, r) : pass_.initial_state(job, s, r),
                    shape_.state_width(s), pass_.args.last[s] + at * shape_.state_stride(s));
      }
    }
  }

  void drop(int64_t layer, int id, int size) {
    const View<Real> from = pass_.output(layer);
    Real* to = pass_.plan.save ? pass_.saved.dropped[layer] : from.base;
    const Real* mask = pass_.args.masks[layer];
    const Range mine = share(batch_.rows() * from.row, id, size);
    for (int64_t i = mine.begin; i < mine.end; ++i) to[i] = from.base[i] * mask[i];
  }

  // The last layer's output, from what is kept to the caller's tensor
  void deliver(int id, int size) const {
    const int64_t width = shape_.directions * shape_.out();
    copy_rows(pass_.output(shape_.layers - 1), width, pass_.args.y, id, size);
  }

  // A layer's states after every step, to the caller's tensors
  void deliver_states(int64_t layer, int id, int size) const {
    for (int64_t d = 0; d < shape_.directions; ++d) {
      const int64_t index = layer * shape_.directions + d;
      for (int s = 0; s < panels_.cell.states; ++s) {
        const int64_t width = shape_.state_width(s);
        const View<Real> to = states_view(batch_, shape_, s, pass_.args.all[s], index);
        copy_rows(pass_.state(layer, d, s), width, to, id, size);
        clear_padding(batch_, to, width, id, size);
      }
    }
  }

  // By turns of steps, which shares a ragged batch evenly
  void copy_rows(const View<Real>& from, int64_t width, const View<Real>& to, int id,
                 int size) const {
    for (int64_t t = id; t < batch_.T(); t += size) {
      for (int64_t r = 0; r < batch_.active(t); ++r) std::copy_n(from.at(t, r), width, to.at(t, r));
    }
  }

  ForwardPass<Real> pass_;
  const Batch& batch_;
  const Shape& shape_;
  const Panels<Real>& panels_;
  const ForwardPacking<Real> packing_;
  const ForwardRecurrence<Real> recurrence_;
  Seats seats_;
  PassDecision decision_;
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
