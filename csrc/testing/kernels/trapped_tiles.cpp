#include "trapped_tiles.h"

#if defined(__x86_64__) && defined(__linux__)

#include <signal.h>
#include <ucontext.h>
#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>

namespace fastrnn {
namespace {

constexpr int kTiles = 8, kRows = 16, kRowBytes = 64;

struct Tile {
  int rows, row_bytes;
  char row[kRows][kRowBytes];
};

thread_local bool shaped;
thread_local Tile tiles[kTiles];

// One instruction: VEX prefix of three bytes, opcode, operands
struct Instruction {
  const uint8_t* begin;
  int prefix, opcode;  // none, 66, f3, f2: 0 to 3
  bool in_memory;      // one operand is
  int reg, rm, vvvv;   // numbers of registers
  char* address;       // of the operand in memory
  int64_t stride;      // what is added to the address for each row
  int64_t length;      // bytes
};

[[noreturn]] void fail(const char* what, const Instruction& at) {
  std::printf("tiles: %s, opcode %02x, prefix %d\n", what, at.opcode, at.prefix);
  std::fflush(stdout);
  _exit(1);
}

constexpr int kRegister[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                             REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                             REG_R12, REG_R13, REG_R14, REG_R15};

int64_t number_at(const uint8_t* from, int bytes) {
  int32_t all = static_cast<int8_t>(*from);
  if (bytes == 4) std::memcpy(&all, from, sizeof all);
  return all;
}

Instruction decoded(const greg_t* registers) {
  const auto* code = reinterpret_cast<const uint8_t*>(registers[REG_RIP]);
  Instruction at = {code,
                    code[2] & 3,
                    code[3],
                    code[4] < 0xc0,
                    code[4] >> 3 & 7,
                    code[4] & 7,
                    ~code[2] >> 3 & 15,
                    nullptr,
                    0,
                    5};
  // W and L are zero; so are R, X and B of instructions that have tiles alone
  if (code[0] != 0xc4 || (code[1] & 0x9f) != 0x82 || (code[2] & 0x84) != 0)
    fail("no tile instruction", at);
  if (!at.in_memory) return at;
  const int more_index = code[1] & 0x40 ? 0 : 8, more_base = code[1] & 0x20 ? 0 : 8;
  const int mode = code[4] >> 6;
  int base = at.rm;
  if (at.rm == 4) {  // a byte says what is added up
    const int sib = code[at.length++], index = (sib >> 3 & 7) + more_index;
    if (index != 4) at.stride = registers[kRegister[index]] << (sib >> 6);
    base = sib & 7;
  }
  const bool no_base = mode == 0 && base == 5;
  const int bytes = mode == 1 ? 1 : mode == 2 || no_base ? 4 : 0;
  int64_t address = bytes ? number_at(code + at.length, bytes) : 0;
  at.length += bytes;
  if (!no_base) address += registers[kRegister[base + more_base]];
  if (no_base && at.rm == 5) address += registers[REG_RIP] + at.length;
  at.address = reinterpret_cast<char*>(address);
  return at;
}

void shape(const Instruction& at) {
  const char* from = at.address + at.stride;
  for (int i = 0; i < 16; ++i) {
    if (from[i] != (i == 0)) fail("another palette than the first", at);
  }
  for (int t = 0; t < 16; ++t) {
    uint16_t row_bytes;
    std::memcpy(&row_bytes, from + 16 + 2 * t, sizeof row_bytes);
    const int rows = from[48 + t];
    const bool none = t >= kTiles || rows == 0;
    if (rows > kRows || row_bytes > kRowBytes || (none && rows + row_bytes > 0))
      fail("a shape that no tile has", at);
    if (t < kTiles) tiles[t] = {rows, row_bytes, {}};
  }
  shaped = true;
}

Tile& tile(const Instruction& at, int number) {
  if (!shaped || number >= kTiles || tiles[number].rows == 0) fail("a tile without a shape", at);
  return tiles[number];
}

float flushed(float number) {
  return std::fabs(number) < 0x1p-126f ? std::copysign(0.0f, number) : number;
}

float half(const char* from) {
  uint16_t bits;
  std::memcpy(&bits, from, sizeof bits);
  const uint32_t all = static_cast<uint32_t>(bits) << 16;
  float number;
  std::memcpy(&number, &all, sizeof number);
  return flushed(number);
}

uint32_t plus_bytes(uint32_t sum, const Tile& a, const Tile& b, int m, int n) {
  for (int k = 0; k < a.row_bytes; ++k)
    sum += static_cast<uint8_t>(a.row[m][k]) * static_cast<int8_t>(b.row[k / 4][4 * n + k % 4]);
  return sum;
}

float plus_halves(float sum, const Tile& a, const Tile& b, int m, int n) {
  float apart[] = {0, 0};
  for (int k = 0; k < a.row_bytes / 2; ++k) {
    const char* other = b.row[k / 2] + 4 * n + k % 2 * 2;
    apart[k % 2] = flushed(std::fma(half(a.row[m] + 2 * k), half(other), apart[k % 2]));
  }
  return flushed(flushed(sum) + flushed(apart[0] + apart[1]));
}

template <class Sum>
void multiply(const Instruction& at, Sum (*plus)(Sum, const Tile&, const Tile&, int, int)) {
  Tile& c = tile(at, at.reg);
  const Tile &a = tile(at, at.rm), &b = tile(at, at.vvvv);
  if (a.rows != c.rows || b.row_bytes != c.row_bytes || a.row_bytes != 4 * b.rows ||
      at.reg == at.rm || at.reg == at.vvvv || at.rm == at.vvvv)
    fail("tiles that do not fit", at);
  for (int m = 0; m < c.rows; ++m) {
    for (int n = 0; n < c.row_bytes / 4; ++n) {
      Sum sum;
      std::memcpy(&sum, c.row[m] + 4 * n, sizeof sum);
      sum = plus(sum, a, b, m, n);
      std::memcpy(c.row[m] + 4 * n, &sum, sizeof sum);
    }
  }
}

void move(const Instruction& at, bool to_memory) {
  Tile& own = tile(at, at.reg);
  if (!to_memory) own = {own.rows, own.row_bytes, {}};
  for (int m = 0; m < own.rows; ++m) {
    char* there = at.address + m * at.stride;
    std::memcpy(to_memory ? there : own.row[m], to_memory ? own.row[m] : there, own.row_bytes);
  }
}

void compute(const Instruction& at) {
  switch (at.opcode << 4 | at.prefix) {
    case 0x490:  // ldtilecfg, tilerelease
      if (at.in_memory) return shape(at);
      if (!shaped) fail("nothing to release", at);
      shaped = false;
      return;
    case 0x493: {  // tilezero
      Tile& own = tile(at, at.reg);
      own = {own.rows, own.row_bytes, {}};
      return;
    }
    case 0x4b3:  // tileloadd
      return move(at, false);
    case 0x4b2:  // tilestored
      return move(at, true);
    case 0x5e1:  // tdpbusd
      return multiply(at, plus_bytes);
    case 0x5c2:  // tdpbf16ps
      return multiply(at, plus_halves);
    default:
      fail("no such instruction", at);
  }
}

void handle(int, siginfo_t*, void* context) {
  greg_t* registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  const Instruction at = decoded(registers);
  compute(at);
  registers[REG_RIP] += at.length;
}

}  // namespace

bool trap_tiles() {
  struct sigaction action = {};
  action.sa_sigaction = handle;
  action.sa_flags = SA_SIGINFO;
  return sigaction(SIGILL, &action, nullptr) == 0;
}

bool tiles_are_held() { return shaped; }

}  // namespace fastrnn

#else

namespace fastrnn {
bool trap_tiles() { return false; }
bool tiles_are_held() { return false; }
}  // namespace fastrnn

#endif
