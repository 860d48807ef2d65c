// The geometry of a call: the steps that there are, and which rows take part in each.
#pragma once

#include <utility>
#include <vector>

#include "engine/call/api.h"
#include "rows.h"

namespace fastrnn::cuda {

// A tensor of a row for each step: its address, elements from step to step and from row to row
template <class T>
struct Strided {
  T* base = nullptr;
  int64_t step = 0;
  int64_t row = 0;
};

class Sequence {
 public:
  // batch_sizes: [T] rows of each step of a packed batch, else empty. lengths: [B] in device
  // memory, or null. resets: bool by step and row in device memory, or without a base.
  Sequence(int64_t T, int64_t B, std::vector<int64_t> batch_sizes, const int64_t* lengths,
           Strided<const bool> resets)
      : T_(T), B_(B), sizes_(std::move(batch_sizes)), lengths_(lengths), resets_(resets) {
    if (sizes_.empty()) return;
    starts_.push_back(0);
    for (int64_t size : sizes_) starts_.push_back(starts_.back() + size);
  }

  int64_t T() const { return T_; }
  int64_t B() const { return B_; }
  bool padded() const { return lengths_ != nullptr; }

  // The s-th step that a direction takes; there is none before the first and after the last.
  int64_t step(bool reverse, int64_t s) const {
    if (s < 0 || s >= T_) return -1;
    return reverse ? T_ - 1 - s : s;
  }

  StepRows rows(bool reverse, int64_t s) const {
    const int64_t t = step(reverse, s), before = step(reverse, s - 1);
    if (t < 0) return {};
    // A reverse step that comes from t + 1 crosses the border before t + 1.
    const int64_t border = reverse ? before : t;
    return {t,        before,
            count(t), count(before),
            lengths_, border < 0 ? Rows<const bool>{} : at(resets_, border)};
  }

  // The rows of step t, of a tensor that is packed if the batch is
  template <class T>
  Rows<T> at(const Strided<T>& tensor, int64_t t) const {
    if (!tensor.base || t < 0) return {};
    const View<T> view = {tensor.base, tensor.step, tensor.row,
                          starts_.empty() ? nullptr : starts_.data(), nullptr};
    return {view.at(t, 0), tensor.row};
  }

 private:
  int64_t count(int64_t t) const {
    if (t < 0) return 0;
    return sizes_.empty() ? B_ : sizes_[t];
  }

  int64_t T_, B_;
  std::vector<int64_t> sizes_, starts_;
  const int64_t* lengths_;
  Strided<const bool> resets_;
};

}  // namespace fastrnn::cuda
