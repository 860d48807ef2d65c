#include "backward.h"

#include <algorithm>
#include <vector>

#include "engine/schedule/decide.h"
#include "products.h"
#include "recurrence.h"

namespace fastrnn {
namespace {

template <class Real>
class Backward {
 public:
  Backward(const Plan& plan, const BackwardArgs<Real>& args)
      : pass_(plan, args),
        batch_(pass_.batch),
        shape_(pass_.shape),
        panels_(pass_.panels),
        recur_(pass_),
        products_(pass_),
        seats_(plan.threads, plan.shape.layers) {}

  void prepare(int size) { decision_ = decide_backward(pass_.plan, size); }

  void operator()(int id, int size) {
    const Crew team = seats_.team(id, size);
    if (shape_.extras) {
      clear_extras(share(batch_.rows(), id, size));
      team.wait();
    }
    for (int64_t layer = shape_.layers - 1; layer >= pass_.lowest; --layer) {
      const LayerDecision& decision = decision_.layer(layer);
      const Sides sides =
          seats_.sides(layer, id, size, static_cast<int>(shape_.directions), decision.crews());
      for (int64_t d = sides.begin; d < sides.end; ++d)
        run_direction(Job(pass_, layer, d, sides, id), decision.of(d));
      team.wait();
      if (pass_.wants_input_gradient(layer) &&
          (shape_.directions == 2 || (layer > 0 && pass_.plan.dropout))) {
        combine_input_gradient(layer, share(batch_.rows(), id, size));
        team.wait();
      }
    }
    if (pass_.args.d_x && shape_.extras) deliver_extras(id, size);
    if (pass_.args.d_x && batch_.padded())
      clear_padding(batch_, pass_.args.d_x, shape_.I + shape_.extras, id, size);
  }

 private:
  using Job = typename BackwardPass<Real>::Job;
  using Block = typename BackwardPass<Real>::Block;

  void run_direction(Job job, const CrewDecision& decision) {
    pack_weights(job);
    start_states(job);
    job.crew.wait_evenly();
    const Split split = decision.split;
    const int number = job.crew.id / split.units;
    Crew group = job.crew.group(number, split.units, decision.cycles);
    bool recurs = job.crew.id < split.threads();
    job.rows = {number, split.rows};
    pass_.take_part(job, group);
    const std::vector<int64_t>& first = pass_.workspace.blocks;
    const int64_t blocks = static_cast<int64_t>(first.size()) - 1;
    for (int64_t i = 0; i < blocks; ++i) {
      const int64_t at = job.reverse ? i : blocks - 1 - i;
      const int64_t start = batch_.start(first[at]);
      const Block block = {first[at], first[at + 1], start, batch_.start(first[at + 1]) - start,
                           i == 0};
      if (recurs) recurs = recur_(job, group, block);
      job.crew.wait();
      products_.pack_block(job, block);
      if (job.d_x) products_.multiply_to_input(job, block);
      job.crew.wait_evenly();
      products_.accumulate_weights(job, block);
      job.crew.wait_evenly();
    }
    finish(job);
  }

  void pack_gate_rows(const Job& job, const Real* w, int64_t K, Range slots, Real* to) const {
    pass_.list_gate_rows(w, K, slots, job.scratch.a);
    const int64_t rows = pass_.pre_length(slots);
    pass_.pack_rows(job, rows, K, to, rows);
  }

  void pack_weights(const Job& job) const {
    const bool reaches_back = batch_.T() > 1 || pass_.args.d_initial[kHidden];
    for (int i = 0; i < panels_.cell.products; ++i) {
      if (pass_.in_place || (i == 0 && !reaches_back)) continue;
      if (shape_.heads > 1) {
        pack_heads(job, i);
        continue;
      }
      pack_gate_rows(job, job.weights.w_hh, shape_.operand_width(i), pass_.product_slots(i),
                     job.dir.w_hh[i]);
    }
    if (!pass_.in_place && job.d_x)
      pack_gate_rows(job, job.weights.w_ih, job.in_features, pass_.input_slots(), job.dir.w_ih);
    if (shape_.P) {
      for (int64_t p = 0; p < shape_.P; ++p) job.scratch.a[p] = job.weights.w_hr + p * shape_.H;
      pass_.pack_rows(job, shape_.P, shape_.H, job.dir.w_hr, shape_.P);
    }
  }

  // Of each column panel the rows of its own heads' gate panels, zero where the heads differ
  void pack_heads(const Job& job, int product) const {
    const int64_t of_head = shape_.of_head(), column = panels_.column;
    const Slots& slots = panels_.cell.product[product];
    const int64_t stride = panels_.product_rows(shape_, product) * column;
    const Range mine = share(panels_.columns(shape_.H), job.crew.id, job.crew.size);
    for (int64_t i = mine.begin; i < mine.end; ++i) {
      Real* to = job.dir.w_hh[product] + i * stride;
      std::fill_n(to, stride, Real{0});
      const Range met = panels_.product_panels(shape_, i);
      for (int64_t panel = met.begin; panel < met.end; ++panel) {
        for (int s = slots.first; s < slots.first + slots.count; ++s) {
          for (int64_t j = 0; j < panels_.units_of(panel); ++j, to += column) {
            const int64_t unit = panel * panels_.unit + j, head = unit / of_head;
            const int64_t row =
                (head * panels_.cell.gates + panels_.cell.gate_of_slot[s]) * of_head;
            const int64_t begin = std::max(i * column, head * of_head);
            const int64_t end = std::min((i + 1) * column, (head + 1) * of_head);
            if (begin >= end) continue;
            const Real* from = job.weights.w_hh + (row + unit % of_head) * of_head;
            std::copy(from + begin - head * of_head, from + end - head * of_head,
                      to + begin - i * column);
          }
        }
      }
    }
  }

  void start_states(const Job& job) const {
    const Range rows = share(batch_.B(), job.crew.id, job.crew.size);
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      const int64_t at = pass_.state_row(job, r);
      for (int s = 0; s < panels_.cell.states; ++s) {
        copy_or_zero(shape_, s, pass_.args.d_last[s], at, pass_.d_state(job, s, r),
                     panels_.gradient_width(shape_, s));
        if (s == kHidden) continue;
        copy_or_zero(shape_, s, pass_.args.initial[s], at, job.dir.initial[s] + r * panels_.units,
                     panels_.units);
      }
      const int64_t width = panels_.padded(shape_.H);
      if (job.dir.d_raw) std::fill_n(pass_.d_raw(job, r), width, Real{0});
      for (int i = 1; i < panels_.cell.products; ++i)
        std::fill_n(pass_.d_operand(job, i, r), width, Real{0});
    }
  }

  void finish(const Job& job) const {
    const Range rows = share(batch_.B(), job.crew.id, job.crew.size);
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      for (int s = 0; s < panels_.cell.states; ++s) {
        if (!pass_.args.d_initial[s]) continue;
        std::copy_n(pass_.d_state(job, s, r), shape_.state_width(s),
                    pass_.args.d_initial[s] + pass_.state_row(job, r) * shape_.state_stride(s));
      }
    }
  }

  // The two directions' shares in a fixed order, then the mask of the dropout that the input came
  // through
  void combine_input_gradient(int64_t layer, Range mine) const {
    const int64_t n = shape_.in(layer);
    const View<Real> to = pass_.input_gradient(layer);
    const Real* mask = layer > 0 && pass_.plan.dropout ? pass_.args.masks[layer - 1] : nullptr;
    const Real* reverse = shape_.directions == 2 ? pass_.workspace.directions[1].d_x : nullptr;
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

  // The gradients of per-step values, which every layer and direction adds to
  void clear_extras(Range rows) const {
    const int64_t width = pass_.workspace.extras_width;
    for (int64_t d = 0; d < shape_.directions; ++d) {
      Real* first = pass_.workspace.directions[d].d_extras + rows.begin * width;
      std::fill_n(first, (rows.end - rows.begin) * width, Real{0});
    }
  }
  void deliver_extras(int id, int size) const {
    const int64_t width = pass_.workspace.extras_width;
    for (int64_t t = id; t < batch_.T(); t += size) {
      for (int64_t r = 0; r < batch_.active(t); ++r) {
        Real* to = pass_.args.d_x.at(t, r) + shape_.I;
        std::fill_n(to, shape_.extras, Real{0});
        for (int64_t d = 0; d < shape_.directions && width; ++d) {
          const Real* from = pass_.workspace.directions[d].d_extras + (batch_.start(t) + r) * width;
          for (const Extra& extra : shape_.program->extras) {
            for (int64_t i = 0; i < shape_.H; ++i)
              to[extra.offset + (extra.per_unit ? i : 0)] += from[i];
            from += panels_.units;
          }
        }
      }
    }
  }

  const BackwardPass<Real> pass_;
  const Batch& batch_;
  const Shape& shape_;
  const Panels<Real>& panels_;
  const BackwardRecurrence<Real> recur_;
  const BackwardProducts<Real> products_;
  Seats seats_;
  PassDecision decision_;
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
