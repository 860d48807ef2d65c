// The geometry of one call, worked out once: which rows are active when, how large each buffer is,
// how the work is split.
#pragma once

#include <algorithm>
#include <type_traits>
#include <vector>

#include "../api.h"
#include "kernels.h"
#include "schedule.h"
#include "team.h"

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

// Which rows are active at which step. Rows are ordered by falling length, so the active ones are
// always the first few.
class Batch {
 public:
  // batch_sizes: [T] active rows at each step, empty: all rows at all steps. order: [B] batch entry
  // of each row, empty: itself.
  Batch(int64_t T, int64_t B, std::vector<int64_t> batch_sizes, std::vector<int64_t> order,
        bool packed);

  int64_t T() const { return T_; }
  int64_t B() const { return B_; }
  int64_t rows() const { return start(T_); }  // of all steps together
  double mean_active() const {
    return static_cast<double>(rows()) / static_cast<double>(T_ > 0 ? T_ : 1);
  }
  int64_t active(int64_t t) const { return sizes_.empty() ? B_ : sizes_[t]; }
  int64_t start(int64_t t) const { return starts_.empty() ? t * B_ : starts_[t]; }
  int64_t length(int64_t r) const { return lengths_.empty() ? T_ : lengths_[r]; }
  int64_t entry(int64_t r) const { return order_.empty() ? r : order_[r]; }

  // The step that a direction comes from when it reaches step t of row r; -1: from the initial
  // state
  int64_t previous(bool reverse, int64_t t, int64_t r) const {
    if (!reverse) return t - 1;
    return t + 1 < T_ && r < active(t + 1) ? t + 1 : -1;
  }

  // Time blocks of about `rows` rows, as [first step of each block ..., T]
  std::vector<int64_t> blocks(int64_t rows) const;

  // A tensor of the caller's, and one of our own with rows of all steps stacked
  template <class Real>
  View<Real> caller_view(Real* base, int64_t step, int64_t row) const {
    return {base, step, row, packed_ ? starts_.data() : nullptr,
            packed_ || order_.empty() ? nullptr : order_.data()};
  }
  template <class Real>
  View<Real> stacked_view(Real* base, int64_t width) const {
    return {base, B_ * width, width, starts_.empty() ? nullptr : starts_.data(), nullptr};
  }

 private:
  int64_t T_, B_;
  std::vector<int64_t> sizes_, starts_, lengths_, order_;
  bool packed_;
};

struct Plan {
  Plan(const Shape& shape, Batch batch, bool save, bool dropout, int threads,
       const KernelTable& kernels);

  Shape shape;
  Batch batch;
  bool save;     // keep what backward needs
  bool dropout;  // masks between the layers
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

// A call's sizes in the units of its kernels.
template <class Real>
struct Panels {
  explicit Panels(const Plan& plan);

  const Kernels<Real>& kernels;
  const CellKernels<Real>& cell;
  int64_t unit, column;  // panel widths
  int64_t gates;         // gate panels of H units
  int64_t width;         // of a gate panel with all slots
  int64_t gate_width;    // with the gates of one product
  int64_t units;         // H rounded up to whole gate panels
  int64_t pre;           // length of a product over all d_pre of a row

  int64_t columns(int64_t n) const { return (n + column - 1) / column; }
  int64_t padded(int64_t n) const { return columns(n) * column; }

  // A step of one direction for the cost model; K is the length of the forward product
  StepWork forward_work(const Plan& plan, int64_t K) const;
  StepWork backward_work(const Plan& plan) const;
};

// What forward keeps for backward.
template <class Real>
struct Saved {
  struct Direction {
    Real* gates = nullptr;  // [rows][gate panels][slots][unit]
    Real* cell = nullptr;   // [rows][units]
    Real* raw = nullptr;    // [rows][H] hidden state before the projection
  };
  Saved(const Plan& plan, Arena& arena);

  std::vector<Direction> directions;  // [layers * directions]
  std::vector<Real*>
      outputs;  // [layers][rows][D * H_out]; the caller may write into its own copy of the last
  std::vector<Real*> dropped;  // [layers - 1] the same after dropout (the same memory without it)
};

}  // namespace fastrnn
