// Sleep until another thread changes a word of memory.
#pragma once

#include <atomic>

namespace fastrnn {

// Returns when `word` has been unparked after it ceased to be `expected`, and now and then without
// a reason; at once if it is not `expected`.
void park(std::atomic<int>& word, int expected);

// Wakes who is parked at `word`.
void unpark(std::atomic<int>& word);

}  // namespace fastrnn
