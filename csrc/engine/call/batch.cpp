#include "batch.h"

#include <algorithm>
#include <utility>

namespace fastrnn {

Batch::Batch(int64_t T, int64_t B, std::vector<int64_t> batch_sizes, std::vector<int64_t> order,
             bool packed, const bool* resets)
    : T_(T),
      span_(T),
      B_(B),
      sizes_(std::move(batch_sizes)),
      order_(std::move(order)),
      packed_(packed),
      resets_(resets) {
  if (sizes_.empty()) return;
  while (T_ > 0 && sizes_[T_ - 1] == 0) --T_;
  starts_.resize(T + 1);
  for (int64_t t = 0; t < T; ++t) starts_[t + 1] = starts_[t] + sizes_[t];
  lengths_.resize(B);
  for (int64_t t = 0, r = B; t < T; ++t) {
    while (r > sizes_[t]) lengths_[--r] = t;
    if (t + 1 == T) std::fill(lengths_.begin(), lengths_.begin() + r, T);
  }
}

std::vector<int64_t> Batch::blocks(int64_t rows) const {
  std::vector<int64_t> first = {0};
  for (int64_t t = 1; t < T_; ++t) {
    if (start(t + 1) - start(first.back()) > rows) first.push_back(t);
  }
  first.push_back(T_);
  return first;
}

}  // namespace fastrnn
