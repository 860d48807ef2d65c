// The rows of a call: dense, packed and ragged batches and resets as one thing.
#pragma once

#include <cstdint>
#include <vector>

#include "api.h"

namespace fastrnn {

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

}  // namespace fastrnn
