// Memory of a call, by pieces.
#pragma once

#include <cstdint>

namespace fastrnn {

// Hands out aligned pieces of a block of memory. Over a null block it only counts: the same code
// states a size and uses it.
class Arena {
 public:
  // movable: what a block has is found in a copy of it as well, which may begin anywhere, and so is
  // not aligned itself.
  explicit Arena(char* block, bool movable = false) : block_(block) {
    if (block && !movable) used_ = -reinterpret_cast<intptr_t>(block) & (kAlignment - 1);
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

}  // namespace fastrnn
