// The geometry of one call, worked out once: which rows are active when, how large each buffer is,
// how the work is split.
#pragma once

#include <algorithm>
#include <type_traits>
#include <vector>

#include "api.h"
#include "arena.h"
#include "batch.h"
#include "engine/kernels/kernels.h"
#include "engine/schedule/schedule.h"
#include "engine/team/team.h"

namespace fastrnn {

struct Plan {
  // kernels: of an instruction set that this processor has, unless sizes are all that is asked for
  Plan(const Shape& shape, Batch batch, bool save, bool dropout, bool states, int threads,
       const KernelTable& kernels);

  // That may run side by side, a direction each
  int most_crews() const { return threads > 1 ? static_cast<int>(shape.directions) : 1; }

  Shape shape;
  Batch batch;
  bool save;     // keep what backward needs
  bool dropout;  // masks between the layers
  bool states;   // those after every step are wanted
  int threads;   // that the call is worth, at the most those offered
  const KernelTable* kernels;

  int64_t saved_bytes = 0;
  int64_t forward_bytes = 0;
  int64_t backward_bytes = 0;
};

template <class Real>
const Kernels<Real>& kernels_in(const KernelTable& table) {
  if constexpr (std::is_same_v<Real, float>) {
    return table.f32;
  } else {
    return table.f64;
  }
}

// Row `row` of a [rows][n] state, or zeros where there is none, padded with zeros to `width`
template <class Real>
void copy_or_zero(const Real* states, int64_t row, int64_t n, Real* to, int64_t width) {
  const int64_t known = states ? n : 0;
  if (known) std::copy_n(states + row * n, n, to);
  std::fill(to + known, to + width, Real{0});
}

// Zeros where rows have ended, at every size-th step from the id-th on
template <class Real>
void clear_padding(const Batch& batch, const View<Real>& to, int64_t width, int id, int size) {
  for (int64_t t = id; t < batch.span(); t += size) {
    for (int64_t r = batch.active(t); r < batch.B(); ++r) std::fill_n(to.at(t, r), width, Real{0});
  }
}

// The states of one (layer, direction) after every step, in the caller's [index, T, B, width]
template <class Real>
View<Real> states_view(const Batch& batch, Real* base, int64_t index, int64_t width) {
  if (!base) return {};
  const int64_t step = batch.B() * width;
  return batch.entry_view(base + index * batch.span() * step, step, width);
}

// A call's sizes in the units of its kernels.
template <class Real>
struct Panels {
  explicit Panels(const Plan& plan);

  const Kernels<Real>& kernels;
  const CellKernels<Real>& cell;
  int64_t unit, column;  // panel widths
  int64_t gates;         // gate panels of H units
  int64_t width;         // of a gate panel with all slots
  int64_t gate_width;    // with the gates of the input's product
  int64_t units;         // H rounded up to whole gate panels
  int64_t last;          // units that the last gate panel has
  int64_t pre;           // elements of a row of projected input

  int64_t columns(int64_t n) const { return (n + column - 1) / column; }
  int64_t padded(int64_t n) const { return columns(n) * column; }

  // A row of the running gradient of a state
  int64_t gradient_width(const Shape& shape, int state) const {
    return state == kHidden ? padded(shape.out()) : units;
  }

  // A gate panel with the slots of a stage's product
  int64_t stage_width(int stage) const { return cell.stage[stage].slots * unit; }

  int64_t units_of(int64_t panel) const { return panel + 1 < gates ? unit : last; }

  // With one step alone forward uses each weight once, and packs a panel, uses and forgets it.
  // Backward reads weights where they lie if only a few tiles of rows, of all steps together, meet
  // them. Cells of several stages do neither.
  bool reads_weights_once(const Plan& plan) const {
    return plan.batch.T() == 1 && plan.shape.I > 0 && cell.stages == 1;
  }

  bool reads_weights_in_place(const Plan& plan) const {
    constexpr int64_t kFewTiles = 3;
    const int64_t tiles_of_a_step = (plan.batch.B() + kernels.tallest - 1) / kernels.tallest;
    return plan.batch.T() * tiles_of_a_step <= kFewTiles && cell.stages == 1;
  }

  // Peepholes into panels like those of the bias, zero where there are none
  void pack_peepholes(const Shape& shape, const Real* w_ch, Range mine, Real* to) const;

  // A step of one direction, run by one of `crews`, for the cost model; K is the length of the
  // forward product
  StepWork forward_work(const Plan& plan, int64_t K, int crews) const;
  StepWork backward_work(const Plan& plan, int crews) const;

  // The cheapest way to run the steps of a direction of so many input features
  Schedule schedule(const Plan& plan, int64_t in, int crews, int threads) const {
    return schedule_forward(forward_work(plan, plan.shape.out(), crews), in,
                            gate_width * int64_t{sizeof(Real)}, threads);
  }

  // Rows of a forward time block there, of all row groups together
  int64_t block_rows(const Plan& plan, int64_t in, int crews) const {
    const int64_t row_bytes = pre * int64_t{sizeof(Real)};
    const int64_t wanted =
        forward_block_rows(row_bytes, row_bytes * (in + plan.shape.out()) * crews);
    return std::min(plan.batch.rows() + plan.batch.T() * plan.threads,
                    std::max(wanted, plan.batch.B() + plan.threads));
  }
};

// What forward keeps for backward.
template <class Real>
struct Saved {
  struct Direction {
    Real* gates = nullptr;             // [rows][gate panels][slots][unit]
    Real* states[kMostStates] = {};    // [rows][units]; `outputs` has the hidden one
    Real* operands[kMostStages] = {};  // [rows][H] what a stage after the first multiplies
    Real* raw = nullptr;               // [rows][H] the hidden state before the projection
  };
  Saved(const Plan& plan, Arena& arena);

  std::vector<Direction> directions;  // [layers * directions]
  std::vector<Real*>
      outputs;  // [layers][rows][D * H_out]; the caller may write into its own copy of the last
  std::vector<Real*> dropped;  // [layers - 1] the same after dropout (the same memory without it)
};

}  // namespace fastrnn
