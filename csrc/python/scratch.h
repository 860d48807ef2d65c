// Memory for the time of one call.
#pragma once

#include <cstdint>

namespace fastrnn {

// Taken from what earlier calls have left behind, since pages fresh from the operating system cost
// a call up to a fifth of its time. Calls that run at once have one each; one larger than kMostKept
// is not left behind.
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

 private:
  const Block block_;
};

// Gives back what calls have left behind.
void empty_cache();

// Asks the operating system for large pages where this memory is large and has none at all yet:
// fewer faults when it is written.
void advise_large_pages(char* data, int64_t bytes);

}  // namespace fastrnn
