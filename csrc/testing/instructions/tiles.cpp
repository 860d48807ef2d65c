// Tiles: the form in plain C++ against loops over single numbers, and the instructions, where the
// flags allow them, against that form. Fails at the first difference, and with 2 where the system
// does not let the instructions run.
#include <stdint.h>
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <type_traits>
#include <vector>

#define FASTRNN_INLINE static inline __attribute__((always_inline))

namespace {

#include "engine/kernels/isa/vec-inl.h"
// Types of integers
#include "engine/kernels/isa/pairs-inl.h"
// Dot products
#include "engine/kernels/isa/dots-inl.h"
// Tiles
#include "engine/kernels/isa/tile-registers-inl.h"

// rows x K times K x columns, each of 32 bits, in which four bytes or two numbers of bfloat16 stand
struct Operands {
  int rows, K, columns;
  std::vector<uint32_t> a, b, sums;
};

// The sums with the product added, after them a tile that has become zero
template <class Of>
std::vector<uint32_t> computed(const Operands& given, bool halves) {
  const int rows[] = {given.rows, given.rows, given.K}, columns[] = {given.columns, given.K};
  TileShapes shapes;
  for (int t = 0; t < 3; ++t) {
    shapes.rows[2 * t + 1] = static_cast<uint8_t>(rows[t]);
    shapes.row_bytes[2 * t + 1] = static_cast<uint16_t>(4 * columns[t % 2]);
  }
  std::vector<uint32_t> to(given.sums.size() + given.a.size(), 1);
  char* const sums = reinterpret_cast<char*>(to.data());
  const int64_t stride = 4 * given.columns;
  Of tiles;
  tiles.shape(shapes);
  tiles.template load<1>(reinterpret_cast<const char*>(given.sums.data()), stride);
  tiles.template load<3>(reinterpret_cast<const char*>(given.a.data()), 4 * given.K);
  tiles.template load<5>(reinterpret_cast<const char*>(given.b.data()), stride);
  if (halves) {
    tiles.template add_halves<1, 3, 5>();
  } else {
    tiles.template add_bytes<1, 3, 5>();
  }
  tiles.template zero<3>();
  tiles.template store<1>(sums, stride);
  tiles.template store<3>(sums + 4 * given.sums.size(), 4 * given.K);
  tiles.release();
  return to;
}

uint32_t bits_of(float number) {
  uint32_t bits;
  std::memcpy(&bits, &number, sizeof bits);
  return bits;
}

float number_of(uint32_t bits) {
  float number;
  std::memcpy(&number, &bits, sizeof number);
  return number;
}

uint32_t sum_of_bytes(uint32_t sum, const Operands& given, int m, int n) {
  for (int k = 0; k < given.K; ++k) {
    const uint32_t a = given.a[m * given.K + k], b = given.b[k * given.columns + n];
    for (int shift = 0; shift < 32; shift += 8)
      sum += static_cast<uint8_t>(a >> shift) * static_cast<int8_t>(b >> shift);
  }
  return sum;
}

// Of numbers whose sums are exact in double precision before they are rounded, and not tiny
uint32_t sum_of_halves(uint32_t sum, const Operands& given, int m, int n) {
  double apart[] = {0, 0};
  for (int k = 0; k < given.K; ++k) {
    const uint32_t a = given.a[m * given.K + k], b = given.b[k * given.columns + n];
    for (int shift : {0, 16}) {
      double& own = apart[shift / 16];
      own += static_cast<double>(number_of(a >> shift << 16)) * number_of(b >> shift << 16);
      own = static_cast<float>(own);
    }
  }
  return bits_of(number_of(sum) + static_cast<float>(apart[0] + apart[1]));
}

// NaN is as good as NaN.
bool same(uint32_t a, uint32_t b, bool halves) {
  return a == b || (halves && std::isnan(number_of(a)) && std::isnan(number_of(b)));
}

bool agree(const Operands& given, bool halves, bool simple) {
  const std::vector<uint32_t> plain = computed<PlainTiles>(given, halves);
  const std::vector<uint32_t> own = computed<Tiles>(given, halves);
  for (size_t i = 0; i < plain.size(); ++i) {
    uint32_t expected = plain[i];
    if (i >= given.sums.size()) {
      expected = 0;
    } else if (!halves || simple) {
      const int m = static_cast<int>(i) / given.columns, n = static_cast<int>(i) % given.columns;
      expected = (halves ? sum_of_halves : sum_of_bytes)(given.sums[i], given, m, n);
    }
    if (same(plain[i], expected, halves) && same(own[i], plain[i], halves)) continue;
    std::printf("%d x %d x %d, element %zu%s: got %08x, in plain code %08x, expected %08x\n",
                given.rows, given.K, given.columns, i, halves ? " of halves" : "", own[i], plain[i],
                expected);
    return false;
  }
  return true;
}

bool may_run() {
#if defined(__x86_64__) && defined(__linux__)
  constexpr int ask = 0x1023, tile_data = 18;
  return syscall(SYS_arch_prctl, ask, tile_data) == 0;
#else
  return true;
#endif
}

}  // namespace

int main() {
  if (!std::is_same_v<Tiles, PlainTiles> && !may_run()) return 2;
  std::mt19937 random(0);
  std::uniform_int_distribution<int> sizes(1, 16), exponents(-8, 7);
  const uint32_t special[] = {0,          0x80000000, 0x3f800000, 0xbf800000,
                              0x7f800000, 0xff800000, 0x7fc00000, 0x00010000,
                              0x807f0000, 0x00800000, 0x7f7f0000, 0x1f800000};
  constexpr int kSpecial = sizeof special / sizeof *special;
  const auto any = [&] { return static_cast<uint32_t>(random()); };
  const auto some = [&] { return special[random() % kSpecial]; };
  const auto near = [&] {
    return bits_of(std::ldexp(static_cast<float>(random() % 256) - 128, exponents(random)));
  };
  const auto pair_of = [](auto one) { return [=] { return (one() & 0xffff0000) | one() >> 16; }; };
  for (int round = 0; round < 2000; ++round) {
    const bool full = round % 4 == 0;
    Operands given = {};
    for (int* size : {&given.rows, &given.K, &given.columns}) *size = full ? 16 : sizes(random);
    const auto fill = [&](auto element, auto sum) {
      given.a.resize(given.rows * given.K);
      given.b.resize(given.K * given.columns);
      given.sums.resize(given.rows * given.columns);
      for (auto* operand : {&given.a, &given.b})
        for (uint32_t& own : *operand) own = element();
      for (uint32_t& own : given.sums) own = sum();
    };
    fill(pair_of(near), near);
    if (!agree(given, true, true)) return 1;
    fill(pair_of(some), some);
    if (!agree(given, true, false)) return 1;
    fill(any, any);
    if (!agree(given, true, false) || !agree(given, false, false)) return 1;
  }
  return 0;
}
