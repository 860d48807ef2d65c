// Waiting without sleep.
#pragma once

#include <cstdint>

#include "crowd.h"

namespace fastrnn {

inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// Spins until arrived(), for about `patience` nanoseconds at the most. Returns 0 if that came true,
// else the time at which it began.
template <class Arrived>
int64_t spin(int64_t patience, Arrived arrived) {
  // Before the first look at a clock, which most waits never need, and from one look to the next
  constexpr int kFirstSpins = 64, kSpins = 32;
  const auto came = [&](int spins) {
    for (; spins > 0; --spins) {
      if (arrived()) return true;
      relax();
    }
    return false;
  };
  if (came(kFirstSpins)) return 0;
  const int64_t begin = nanoseconds_now();
  while (nanoseconds_now() - begin < patience) {
    if (came(kSpins)) return 0;
  }
  return begin;
}

}  // namespace fastrnn
