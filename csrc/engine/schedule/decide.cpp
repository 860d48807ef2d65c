#include "decide.h"

#include <algorithm>

#include "engine/team/processors.h"
#include "engine/team/team.h"
#include "machine.h"

namespace fastrnn {
namespace {

// The steps of one direction as the cost model sees them; `crews` do the like side by side.
template <class Real>
class Model {
 public:
  explicit Model(const Plan& plan) : panels(plan), plan_(plan), shape_(plan.shape) {}

  const Panels<Real> panels;

  // What one thread would need for forward, roughly
  double forward_cycles() const {
    double cycles = 0;
    for (int64_t layer = 0; layer < shape_.layers; ++layer) {
      const int64_t K = shape_.in(layer) + recurrent_length();
      const double weights = plan_.packed ? 0 : static_cast<double>(panels.pre * K);
      cycles += weights / kPackingPerCycle +
                plan_.batch.T() * schedule_step(forward_work(K, 1), 1).cycles;
    }
    return cycles * shape_.directions;
  }

  Schedule forward(int64_t in, int crews, int threads) const {
    StepWork work = forward_work(recurrent_length(), crews);
    const int64_t feature_bytes = panels.gate_width * panels.format.bytes;
    if (!plan_.packed) work.packed = for_each_step(work.panel_bytes + in * feature_bytes);
    work.meets = meets(panels.cell.forward_stages);
    return schedule_forward(work, in, feature_bytes, threads);
  }

  Schedule backward(int crews, int threads) const {
    const bool deals = false;
    const Program* program = shape_.program;
    const int64_t K = panels.cell.gates * (program ? recurrent_length() : shape_.H);
    const double equations = program ? program->backward.cycles * 4 : kBackwardRowCycles;
    const int64_t panel_bytes = K * panels.column * int64_t{sizeof(Real)};
    const double packed = plan_.weights_in_place ? 0 : for_each_step(panel_bytes);
    return schedule_step(
        {plan_.batch.mean_active(), panels.columns(shape_.out()), 4, panels.kernels.tallest, K,
         panel_bytes, equations, deals, crews, packed, meets(panels.cell.backward_stages)},
        threads);
  }

  // Rows of a forward time block, of all row groups together
  int64_t block_rows(int64_t in, int crews) const {
    const int64_t row_bytes = panels.pre * int64_t{sizeof(Real)};
    const int64_t wanted =
        forward_block_rows(row_bytes, in, row_bytes * (in + recurrent_length()) * crews);
    const Batch& batch = plan_.batch;
    return std::min(batch.rows() + batch.T() * plan_.threads,
                    std::max(wanted, batch.B() + plan_.threads));
  }

  // Is it worth it for other threads to project a part of what comes next?
  bool worth_helping(int64_t in) const {
    const double vectors = 4.0 * static_cast<double>(panels.pre) / panels.column;
    return worth_sharing(in, vectors, static_cast<double>(panels.pre) * sizeof(Real));
  }

  // Tiles of rows that meet the weights backward
  int64_t tiles_of_step() const {
    return (plan_.batch.B() + panels.kernels.tallest - 1) / panels.kernels.tallest;
  }

 private:
  bool meets(const Stages& stages) const {
    return panels.cell.meets || shape_.P > 0 || stages.count > 1;
  }
  double for_each_step(int64_t bytes) const {
    return static_cast<double>(bytes) / static_cast<double>(std::max<int64_t>(1, plan_.batch.T()));
  }

  // What a unit's slots meet in a step, of all recurrent products together
  int64_t recurrent_length() const {
    const Program* program = shape_.program;
    if (!program) return shape_.out();
    int64_t length = 0;
    for (int i = 0; i < panels.cell.products; ++i)
      length += panels.panel_length(shape_, i) * panels.cell.product[i].count;
    return length / std::max(1, panels.cell.input.count);
  }

  StepWork forward_work(int64_t K, int crews) const {
    const int64_t lanes = panels.column / 4;
    // Where units never wait for one another each has to stay with its thread from step to step,
    // while the share of rows that a panel is dealt out by changes with their number.
    const Batch& batch = plan_.batch;
    const bool deals = panels.cell.meets || batch.rows() == batch.T() * batch.B();
    return {plan_.batch.mean_active(),
            panels.gates,
            static_cast<int>(panels.gate_width / lanes),
            panels.cell.tallest,
            K,
            K * panels.gate_width * panels.format.bytes,
            shape_.program ? shape_.program->forward.cycles * 4 : kForwardRowCycles,
            deals,
            crews};
  }

  const Plan& plan_;
  const Shape& shape_;
};

template <class Real>
CrewDecision decide_forward_crew(const Plan& plan, int64_t in, int crews, int threads) {
  CrewDecision crew;
  crew.threads = threads;
  if (plan.weights_once) {
    crew.fused = {true, Reason::kWeightsOnce};
    if (threads == 1) return crew;
  }
  const Model<Real> model(plan);
  const Schedule schedule = model.forward(in, crews, threads);
  crew.cycles = schedule.cycles;
  crew.barrier = schedule.barrier;
  if (plan.weights_once) {
    crew.split = {1, threads};
    return crew;
  }
  crew.split = schedule.split;
  const Reason reason = in > 0 ? Reason::kCycles : Reason::kNoChoice;
  crew.fused = {schedule.fused, reason, schedule.cycles + schedule.far, schedule.instead};
  if (schedule.fused) return crew;
  crew.block_rows = model.block_rows(in, crews) / crew.split.rows;
  const int64_t rows = Rows{0, crew.split.rows}.count(plan.batch.B());
  if (crew.split.threads() == threads || 2 * rows > crew.block_rows) return crew;
  const int64_t steps = std::min(std::max(plan.batch.T() / kHelpedBlocks, kLeastHelpedSteps),
                                 crew.block_rows / 2 / rows);
  // The first block has nothing to hide behind.
  if (steps >= plan.batch.T() && !model.worth_helping(in)) return crew;
  crew.helped_steps = steps;
  crew.piece_steps = std::max<int64_t>(1, kTilesOfPiece * model.panels.cell.tallest / rows);
  return crew;
}

template <class Real>
CrewDecision decide_backward_crew(const Plan& plan, int crews, int threads) {
  CrewDecision crew;
  crew.threads = threads;
  if (threads == 1 && (crews == 1 || plan.weights_in_place)) return crew;
  const Schedule schedule = Model<Real>(plan).backward(crews, threads);
  crew.split = schedule.split;
  crew.cycles = schedule.cycles;
  crew.barrier = schedule.barrier;
  return crew;
}

// reason: why two crews are better in any case; kCycles: the model is asked.
// decide_crew(crews, threads): what each of them does.
template <class DecideCrew>
LayerDecision decide_layer(const Plan& plan, int size, Reason reason, DecideCrew decide_crew) {
  LayerDecision layer;
  if (plan.shape.directions < 2 || size < 2) {
    layer.crew[0] = decide_crew(1, size);
    return layer;
  }
  layer.side_by_side = {true, reason};
  layer.crew[1] = decide_crew(2, size / 2);
  if (reason == Reason::kCycles) {
    const CrewDecision in_turn = decide_crew(1, size), &side = layer.crew[1];
    const double turns = 2 * in_turn.cycles;
    layer.side_by_side = {true, reason, side.cycles, turns};
    if (better_in_turn({in_turn.split, in_turn.cycles}, {side.split, side.cycles})) {
      layer.side_by_side = {false, reason, turns, side.cycles};
      layer.crew[0] = in_turn;
      return layer;
    }
  }
  layer.crew[0] = size % 2 ? decide_crew(2, size / 2 + 1) : layer.crew[1];
  return layer;
}

template <class Real>
LayerDecision decide_forward_layer(const Plan& plan, int64_t layer, int size) {
  const int64_t in = plan.shape.in(layer);
  const Reason reason = plan.weights_once ? Reason::kWeightsOnce : Reason::kCycles;
  return decide_layer(plan, size, reason, [&](int crews, int threads) {
    return decide_forward_crew<Real>(plan, in, crews, threads);
  });
}

}  // namespace

PassDecision decide_forward(const Plan& plan, int size) {
  PassDecision pass;
  with_dtype(plan.shape.dtype, [&](auto zero) {
    using Real = decltype(zero);
    pass.first = decide_forward_layer<Real>(plan, 0, size);
    if (plan.shape.layers > 1) pass.above = decide_forward_layer<Real>(plan, 1, size);
  });
  return pass;
}

PassDecision decide_backward(const Plan& plan, int size) {
  PassDecision pass;
  const Reason reason = plan.weights_in_place ? Reason::kFewRows : Reason::kCycles;
  with_dtype(plan.shape.dtype, [&](auto zero) {
    pass.first = decide_layer(plan, size, reason, [&](int crews, int threads) {
      return decide_backward_crew<decltype(zero)>(plan, crews, threads);
    });
  });
  pass.above = pass.first;
  return pass;
}

void decide_layout(Plan& plan, int offered) {
  const Shape& shape = plan.shape;
  with_dtype(shape.dtype, [&](auto zero) {
    using Real = decltype(zero);
    const Model<Real> model(plan);
    plan.threads = std::min(offered, usable_processors());
    if (plan.threads > 1) {
      plan.forward_cycles = model.forward_cycles();
      plan.threads = threads_worth(plan.forward_cycles, plan.threads);
    }
    const bool one_stage = model.panels.cell.forward_stages.count == 1 &&
                           model.panels.cell.products == 1 && shape.heads == 1;
    const bool plain = !plan.packed && plan.format == Format::kPlain;
    plan.weights_once = plan.batch.T() == 1 && shape.I > 0 && one_stage && plain;
    plan.weights_in_place =
        plain && plan.batch.T() * model.tiles_of_step() <= kFewTiles && one_stage;
    const int crews = plan.threads > 1 ? static_cast<int>(shape.directions) : 1;
    if (!plan.weights_once) plan.block_rows = model.block_rows(shape.widest_in(), crews);
  });
}

}  // namespace fastrnn
