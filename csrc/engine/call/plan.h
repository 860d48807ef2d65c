// The geometry of one call, worked out once: which rows are active when, how large each buffer is.
// How its threads share the work is decided when it is known how many there are
// (schedule/decide.h).
#pragma once

#include <algorithm>
#include <type_traits>
#include <vector>

#include "api.h"
#include "engine/kernels/kernels.h"
#include "engine/team/team.h"

namespace fastrnn {

// Hands out aligned pieces of a block of memory. Over a null block it only counts: the same code
// states a size and uses it.
class Arena {
 public:
  explicit Arena(char* block) : block_(block) {
    if (block) used_ = -reinterpret_cast<intptr_t>(block) & (kAlignment - 1);
  }

  template <class T>
  T* take(int64_t count) {
    T* piece = block_ ? reinterpret_cast<T*>(block_ + used_) : nullptr;
    used_ += (count * static_cast<int64_t>(sizeof(T)) + kAlignment - 1) & ~(kAlignment - 1);
    return piece;
  }

  int64_t bytes() const { return used_ + kAlignment; }  // with room to align the block's start

 private:
  static constexpr int64_t kAlignment = 64;
  char* block_;
  int64_t used_ = 0;
};

// Which rows are active at which step, and where each takes its state from. Rows are ordered by
// falling length, so the active ones are always the first few.
class Batch {
 public:
  // batch_sizes: [T] active rows at each step, zeros at the end allowed; empty: all rows at all
  // steps. order: [B] batch entry of each row, empty: itself. packed: the caller's tensors hold
  // active rows alone, in this order. resets: [T, B] by batch entry, no state passes from the step
  // before to this one; or null. The caller keeps them for as long as the batch.
  Batch(int64_t T, int64_t B, std::vector<int64_t> batch_sizes, std::vector<int64_t> order,
        bool packed, const bool* resets);

  int64_t T() const { return T_; }        // steps with an active row
  int64_t span() const { return span_; }  // steps of the caller's tensors
  int64_t B() const { return B_; }
  int64_t rows() const { return start(T_); }  // of all steps together
  double mean_active() const {
    return static_cast<double>(rows()) / static_cast<double>(T_ > 0 ? T_ : 1);
  }
  int64_t active(int64_t t) const { return sizes_.empty() ? B_ : sizes_[t]; }
  int64_t start(int64_t t) const { return starts_.empty() ? t * B_ : starts_[t]; }
  int64_t length(int64_t r) const { return lengths_.empty() ? T_ : lengths_[r]; }
  int64_t entry(int64_t r) const { return order_.empty() ? r : order_[r]; }

  // The step that a direction comes from when it reaches step t of row r; or one of these
  static constexpr int64_t kInitial = -1;  // from the initial state
  static constexpr int64_t kZeros = -2;    // from a reset: a state of zeros
  int64_t previous(bool reverse, int64_t t, int64_t r) const {
    if (!reverse) return resets(t, r) ? kZeros : t - 1;
    if (t + 1 == T_ || r >= active(t + 1)) return kInitial;
    return resets(t + 1, r) ? kZeros : t + 1;
  }
  bool has_resets() const { return resets_ != nullptr; }

  // Do the caller's tensors have room for steps that a row does not take?
  bool padded() const { return !packed_ && !sizes_.empty(); }

  // Time blocks of about `rows` rows, as [first step of each block ..., T]
  std::vector<int64_t> blocks(int64_t rows) const;

  // A tensor of the caller's: like x, packed if the batch is, or by batch entry in any case; and
  // one of our own with rows of all steps stacked
  template <class Real>
  View<Real> caller_view(Real* base, int64_t step, int64_t row) const {
    if (packed_) return {base, step, row, starts_.data(), nullptr};
    return entry_view(base, step, row);
  }
  template <class Real>
  View<Real> entry_view(Real* base, int64_t step, int64_t row) const {
    return {base, step, row, nullptr, order_.empty() ? nullptr : order_.data()};
  }
  template <class Real>
  View<Real> stacked_view(Real* base, int64_t width) const {
    return {base, B_ * width, width, starts_.empty() ? nullptr : starts_.data(), nullptr};
  }

 private:
  bool resets(int64_t t, int64_t r) const { return resets_ && resets_[t * B_ + entry(r)]; }

  int64_t T_, span_, B_;
  std::vector<int64_t> sizes_, starts_, lengths_, order_;
  bool packed_;
  const bool* resets_;
};

struct PlanOptions {
  bool save = false;     // keep what backward needs
  bool dropout = false;  // masks between the layers
  bool states = false;   // those after every step are wanted
  int threads = 1;       // offered
};

struct Plan {
  // kernels: of an instruction set that this processor has, unless sizes are all that is asked for
  Plan(const Shape& shape, Batch batch, const PlanOptions& options, const KernelTable& kernels);

  Shape shape;
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
  int64_t hidden_width;  // with those of the hidden state's
  int64_t units;         // H rounded up to whole gate panels
  int64_t last;          // units that the last gate panel has
  int64_t pre;           // elements of a row of projected input

  int64_t columns(int64_t n) const { return (n + column - 1) / column; }
  int64_t padded(int64_t n) const { return columns(n) * column; }

  int64_t units_of(int64_t panel) const { return panel + 1 < gates ? unit : last; }

  // Peepholes into panels like those of the bias, zero where there are none
  void pack_peepholes(const Shape& shape, const Real* w_ch, Range mine, Real* to) const;
};

// What forward keeps for backward.
template <class Real>
struct Saved {
  struct Direction {
    Real* gates = nullptr;  // [rows][gate panels][slots][unit]
    Real* cell = nullptr;   // [rows][units]
    Real* raw = nullptr;    // [rows][H] what a step's second product takes: the hidden state before
                            // the projection, or r * h_prev of a cell of two stages
  };
  Saved(const Plan& plan, Arena& arena);

  std::vector<Direction> directions;  // [layers * directions]
  std::vector<Real*>
      outputs;  // [layers][rows][D * H_out]; the caller may write into its own copy of the last
  std::vector<Real*> dropped;  // [layers - 1] the same after dropout (the same memory without it)
};

}  // namespace fastrnn
