// Dot products within each lane: the forms in plain C++ against loops over single numbers, and the
// instructions, where the flags allow them, against those forms. Fails at the first difference.
#include <stdint.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>

#define FASTRNN_INLINE static inline __attribute__((always_inline))

namespace {

#include "engine/kernels/isa/vec-inl.h"
// Types of integers
#include "engine/kernels/isa/pairs-inl.h"
// Dot products
#include "engine/kernels/isa/dots-inl.h"

constexpr int kInts = FASTRNN_VECTOR_BYTES / 4;

uint32_t bits_of(float number) {
  uint32_t bits;
  std::memcpy(&bits, &number, sizeof bits);
  return bits;
}

float upper_half(uint32_t bits) {
  bits &= 0xffff0000;
  float number;
  std::memcpy(&number, &bits, sizeof number);
  return number;
}

// A result that is no normal number is a zero with its sign.
float flushed(double number) {
  return std::fabs(number) < 0x1p-126 ? std::copysign(0.0f, static_cast<float>(number))
                                      : static_cast<float>(number);
}

bool same(const char* what, int lane, uint32_t got, uint32_t expected) {
  if (got == expected) return true;
  std::printf("%s, lane %d: got %08x, expected %08x\n", what, lane, got, expected);
  return false;
}

bool bytes_agree(UnsignedInts sum, Ints a, Ints b) {
  const UnsignedInts plain = plain_dot_of_bytes(sum, a, b), own = dot_of_bytes(sum, a, b);
  for (int i = 0; i < kInts; ++i) {
    int64_t expected = sum[i];
    for (int j = 0; j < 4; ++j) {
      const int32_t of_a = a[i], of_b = b[i];
      expected += static_cast<uint8_t>(of_a >> (8 * j)) * static_cast<int8_t>(of_b >> (8 * j));
    }
    if (!same("bytes in plain code", i, plain[i], static_cast<uint32_t>(expected))) return false;
    if (!same("bytes", i, own[i], plain[i])) return false;
  }
  return true;
}

// NaN is as good as NaN.
uint32_t comparable(float number) { return std::isnan(number) ? 0x7fc00000 : bits_of(number); }

bool halves_agree(Vec<float> sum, Ints a, Ints b, bool exact_in_double) {
  const Vec<float> plain = plain_dot_of_halves(sum, a, b), own = dot_of_halves(sum, a, b);
  for (int i = 0; i < kInts; ++i) {
    const uint32_t of_a = a[i], of_b = b[i];
    double all = flushed(sum[i]);
    for (int shift : {0, 16}) {
      const double x = flushed(upper_half(of_a << shift)), y = flushed(upper_half(of_b << shift));
      all = flushed(x * y + all);
    }
    const uint32_t expected = comparable(static_cast<float>(all));
    if (exact_in_double && !same("halves in plain code", i, comparable(plain[i]), expected))
      return false;
    if (!same("halves", i, comparable(own[i]), comparable(plain[i]))) return false;
  }
  return true;
}

}  // namespace

int main() {
  std::mt19937 random(0);
  std::uniform_int_distribution<int> exponents(-8, 7);
  const uint32_t special[] = {0,          0x80000000, 0x3f800000, 0xbf800000,
                              0x7f800000, 0xff800000, 0x7fc00000, 0x00010000,
                              0x807f0000, 0x00800000, 0x7f7f0000, 0x1f800000};
  constexpr int kSpecial = sizeof special / sizeof *special;
  for (int round = 0; round < 20000; ++round) {
    UnsignedInts sums;
    Ints a, b, near_a, near_b, some_a, some_b;
    Vec<float> near_sum, some_sum;
    for (int i = 0; i < kInts; ++i) {
      sums[i] = random();
      a[i] = static_cast<int32_t>(round == 0 ? 0xffffffff : random());
      b[i] = static_cast<int32_t>(round == 0 ? 0x80808080 : random());
      const auto half = [&] {
        const auto number = static_cast<float>(random() % 256) - 128;
        return bits_of(std::ldexp(number, exponents(random))) & 0xffff0000;
      };
      near_a[i] = static_cast<int32_t>(half() | half() >> 16);
      near_b[i] = static_cast<int32_t>(half() | half() >> 16);
      near_sum[i] = std::ldexp(static_cast<float>(random() % 65536) - 32768, exponents(random));
      const auto any = [&] { return special[random() % kSpecial]; };
      some_a[i] = static_cast<int32_t>(any() | any() >> 16);
      some_b[i] = static_cast<int32_t>(any() | any() >> 16);
      const uint32_t bits = any() | (random() % 2 ? random() % 65536 : 0);
      std::memcpy(reinterpret_cast<char*>(&some_sum) + 4 * i, &bits, sizeof bits);
    }
    if (!bytes_agree(sums, a, b) || !halves_agree(near_sum, near_a, near_b, true) ||
        !halves_agree(some_sum, some_a, some_b, false) ||
        !halves_agree((Vec<float>)sums, a, b, false))
      return 1;
  }
  return 0;
}
