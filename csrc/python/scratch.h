// Memory that calls take from one another.
#pragma once

#include <cstdint>

namespace fastrnn {

// What a call works in, or keeps for backward. Taken from what earlier calls have left behind,
// since pages fresh from the operating system cost a call up to a fifth of its time. As long as
// what is left behind is kMostKept in all, more is given back.
class Scratch {
 public:
  struct Block {
    char* data;
    int64_t bytes;
  };
  static constexpr int64_t kMostKept = int64_t{256} << 20;

  explicit Scratch(int64_t bytes);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  char* data() const { return block_.data; }
  int64_t bytes() const { return block_.bytes; }  // as many as were asked for, or more

 private:
  const Block block_;
};

// Bytes from which on a block comes from the operating system in fresh pages, large ones where it
// has them.
constexpr int64_t kWorthLeaving = int64_t{16} << 20;

// Gives back what calls have left behind.
void empty_cache();

}  // namespace fastrnn
