// The geometry of one call, worked out once: which rows are active when, how large each buffer is.
// How its threads share the work is decided when it is known how many there are
// (schedule/decide.h).
#pragma once

#include <algorithm>
#include <memory>
#include <type_traits>
#include <vector>

#include "api.h"
#include "arena.h"
#include "batch.h"
#include "engine/kernels/kernels.h"
#include "engine/team/team.h"
#include "program.h"

namespace fastrnn {

// What forward finds packed: see forward/freeze.h
struct Packed;

struct PlanOptions {
  std::shared_ptr<const Packed> packed;  // the shape's weights, for inference; or null
  Format format = Format::kPlain;  // else, of the panels that a call of steps packs for itself
  bool save = false;               // keep what backward needs
  bool dropout = false;            // masks between the layers
  bool states = false;             // those after every step are wanted
  int threads = 1;                 // offered
};

struct Plan {
  // kernels: of an instruction set that this processor has, unless sizes are all that is asked for
  Plan(const Shape& shape, Batch batch, const PlanOptions& options, const KernelTable& kernels);

  Shape shape;
  std::shared_ptr<const Program> program;  // the shape's, kept for as long as the plan
  std::shared_ptr<const Packed> packed;    // null: each call brings its weights
  Format format = Format::kPlain;
  Batch batch;
  bool save, dropout, states;
  const KernelTable* kernels;

  // What memory depends on, and so is decided with the plan
  int threads = 1;                // that the call is worth, at the most those offered
  double forward_cycles = 0;      // on one thread, by the cost model; 0: it was not asked
  bool weights_once = false;      // forward packs a panel of weights, uses and forgets it
  bool weights_in_place = false;  // backward reads weights where they lie
  int64_t block_rows = 0;         // room for those of projected input, of all row groups together

  int64_t saved_bytes = 0;
  int64_t forward_bytes = 0;
  int64_t backward_bytes = 0;
};

// Calls function(zero), a zero of the type that stands for dtype.
template <class Function>
void with_dtype(DType dtype, Function function) {
  if (dtype == DType::kFloat32) {
    function(float());
  } else {
    function(double());
  }
}

template <class Real>
const Kernels<Real>& kernels_in(const KernelTable& table) {
  if constexpr (std::is_same_v<Real, float>) {
    return table.f32;
  } else {
    return table.f64;
  }
}

// A row of a state of the caller's, or zeros where there is none, padded with zeros to `width`
template <class Real>
void copy_or_zero(const Shape& shape, int state, const Real* states, int64_t row, Real* to,
                  int64_t width) {
  const int64_t known = states ? shape.state_width(state) : 0;
  if (known) std::copy_n(states + row * shape.state_stride(state), known, to);
  std::fill(to + known, to + width, Real{0});
}

// Zeros where rows have ended, at every size-th step from the id-th on
template <class Real>
void clear_padding(const Batch& batch, const View<Real>& to, int64_t width, int id, int size) {
  for (int64_t t = id; t < batch.span(); t += size) {
    for (int64_t r = batch.active(t); r < batch.B(); ++r) std::fill_n(to.at(t, r), width, Real{0});
  }
}

// A state of one (layer, direction) after every step, in the caller's [index, T, B, ...]
template <class Real>
View<Real> states_view(const Batch& batch, const Shape& shape, int state, Real* base,
                       int64_t index) {
  if (!base) return {};
  const int64_t row = shape.state_stride(state), step = batch.B() * row;
  return batch.entry_view(base + index * batch.span() * step, step, row);
}

// A call's sizes in the units of its kernels.
template <class Real>
struct Panels {
  explicit Panels(const Plan& plan) : Panels(plan.shape, *plan.kernels, plan.format, plan.save) {}
  Panels(const Shape& shape, const KernelTable& kernels, Format format, bool save);

  const Kernels<Real>& kernels;
  const WeightFormat<Real>& format;
  const CellKernels<Real> cell;
  int64_t unit, column;  // panel widths
  int64_t gates;         // gate panels of H units
  int64_t width;         // of a gate panel with all slots
  int64_t d_width;       // with their gradients
  int64_t kept_width;    // with what forward keeps
  int64_t gate_width;    // with the slots of the input's product
  int64_t units;         // H rounded up to whole gate panels
  int64_t last;          // units that the last gate panel has
  int64_t pre;           // elements of a row of projected input
  int first_held;        // of the states that no step sets; their number where there are none
  int64_t met = 0;       // features of the heads of a panel's units, at the most; of one head 0

  int64_t columns(int64_t n) const { return (n + column - 1) / column; }
  int64_t padded(int64_t n) const { return columns(n) * column; }

  // A row of the running gradient of a state
  int64_t gradient_width(const Shape& shape, int state) const {
    return state == kHidden ? padded(shape.out()) : units;
  }

  // A gate panel with the slots of a product
  int64_t product_width(int product) const { return cell.product[product].count * unit; }

  // Bytes of a panel of packed weights, by slot of one slot; and of those of all panels and slots
  int64_t input_panel(int64_t in) const {
    return format.panel_bytes(in, cell.by_slot ? unit : gate_width);
  }
  int64_t input_bytes(int64_t in) const {
    return gates * (cell.by_slot ? cell.input.count : 1) * input_panel(in);
  }
  int64_t product_panel(const Shape& shape, int product) const {
    const int64_t columns = cell.by_slot ? unit : product_width(product);
    return format.panel_bytes(panel_length(shape, product), columns);
  }
  int64_t product_bytes(const Shape& shape, int product) const {
    const int slots = cell.by_slot ? cell.product[product].count : 1;
    return gates * slots * product_panel(shape, product);
  }
  int64_t projection_panel(const Shape& shape) const { return format.panel_bytes(shape.H, column); }

  // Rows of weights that a column panel of a product's operand meets backward, at the most: those
  // of all of its gates, or of the panels that the heads of its units reach into
  int64_t product_rows(const Shape& shape, int product) const;
  Range product_panels(const Shape& shape, int64_t column_panel) const;

  // How much of what a product multiplies a panel meets, at the most: all, or what belongs to the
  // heads of its units
  int64_t panel_length(const Shape& shape, int product) const {
    return shape.heads == 1 ? shape.operand_width(product) : met;
  }

  // What is kept of `active` rows that are at the same step: those of a program panel by panel, as
  // its steps go through them.
  int64_t kept_row() const { return cell.by_slot ? kept_width : gates * kept_width; }
  int64_t kept_panel(int64_t active) const {
    return cell.by_slot ? active * kept_width : kept_width;
  }
  Real* kept_of(Real* kept, int64_t start, int64_t r) const {
    return kept + start * gates * kept_width + r * kept_row();
  }

  int64_t units_of(int64_t panel) const { return panel + 1 < gates ? unit : last; }
};

// What forward keeps for backward.
template <class Real>
struct Saved {
  struct Direction {
    Real* gates = nullptr;               // [rows][gate panels][saved][unit], see Panels::kept_of
    Real* states[kMostStates] = {};      // [rows][units]; `outputs` has the hidden one
    Real* operands[kMostProducts] = {};  // [rows][H] what a product after the first multiplies
    Real* raw = nullptr;                 // [rows][H] the hidden state before the projection
  };
  Saved(const Plan& plan, Arena& arena);

  std::vector<Direction> directions;  // [layers * directions]
  std::vector<Real*>
      outputs;  // [layers][rows][D * H_out]; the caller may write into its own copy of the last
  std::vector<Real*> dropped;  // [layers - 1] the same after dropout (the same memory without it)
};

}  // namespace fastrnn
