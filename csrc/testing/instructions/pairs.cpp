// What an instruction computes is what its form in plain C++ does. Compiled by the tests with the
// flags of each instruction set; fails at the first difference.
#include <stdint.h>

#include <cstdio>
#include <random>

#define FASTRNN_INLINE static inline __attribute__((always_inline))

namespace {

#include "engine/kernels/isa/vec-inl.h"
// Products of small integers
#include "engine/kernels/isa/pairs-inl.h"

constexpr int kShorts = FASTRNN_VECTOR_BYTES / 2;

bool agree(Shorts a, Shorts b) {
  const Ints got = sum_of_pairs(a, b), expected = plain_sum_of_pairs(a, b);
  for (int i = 0; i < kShorts / 2; ++i) {
    const int32_t sum = a[2 * i] * b[2 * i] + a[2 * i + 1] * b[2 * i + 1];
    if (got[i] != expected[i] || got[i] != sum) {
      std::printf("lane %d: got %d, plainly %d, expected %d\n", i, got[i], expected[i], sum);
      return false;
    }
  }
  return true;
}

}  // namespace

int main() {
  std::mt19937 random(0);
  // Not both ends of the range together: four products of -2^15 are more than 32 bits hold.
  std::uniform_int_distribution<int> any(-32767, 32767), small(-127, 127);
  for (int i = 0; i < 1000; ++i) {
    Shorts a, b, c;
    for (int j = 0; j < kShorts; ++j) {
      a[j] = static_cast<int16_t>(any(random));
      b[j] = static_cast<int16_t>(i == 0 ? 32767 : i == 1 ? -32767 : any(random));
      c[j] = static_cast<int16_t>(small(random));
    }
    if (!agree(a, b) || !agree(a, c) || !agree(c, a) || !agree(c, c)) return 1;
  }
  return 0;
}
