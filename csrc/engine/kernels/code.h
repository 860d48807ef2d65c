// A cell's equations as code for the interpreter (isa/program-inl.h): instructions on registers,
// each of which holds one quantity of a few rows and units.
#pragma once

#include <stdint.h>

#include "engine/call/api.h"

namespace fastrnn {

// FASTRNN_OPERATIONS(f) calls f(name) for each. The first group brings a quantity into register
// `to`, a being its number: at first what code of both passes reads, then what that of one does.
// The second takes it out of register a, `to` being its number; the others compute register `to`
// from a, b and c. Where a number is of what, says ProgramStep. Code of rows computes numbers that
// a row's units share, which `spread` gives to each of them.
#define FASTRNN_SOURCES(f)                                                                  \
  f(state) f(kept) f(vector) f(extra) f(constant) f(sum) f(input) f(hidden) f(pre) f(after) \
      f(d_state) f(d_operand) f(temp)
#define FASTRNN_SINKS(f)                                                                    \
  f(set_state) f(set_operand) f(keep) f(add_to_sum) f(set_d_pre) f(set_d_state) f(set_temp) \
      f(add_d_vector) f(add_d_extra)
#define FASTRNN_ARITHMETIC(f)                                                                      \
  f(neg) f(exp) f(expm1) f(log) f(log1p) f(sqrt) f(sigmoid) f(tanh) f(softplus) f(sin) f(cos)      \
      f(erf) f(abs) f(sign) f(relu) f(reciprocal) f(spread) f(one_minus) f(add) f(sub) f(mul)      \
          f(div) f(minimum) f(maximum) f(lt) f(le) f(eq) f(d_sigmoid) f(d_tanh) f(d_relu) f(where) \
              f(fma)
#define FASTRNN_OPERATIONS(f) FASTRNN_SOURCES(f) FASTRNN_SINKS(f) FASTRNN_ARITHMETIC(f)
// What code on places has besides: a value as it is; the same from or to a place that ends with the
// last unit, or a number of rows; and what the next rows will read.
#define FASTRNN_MOVES(f) f(copy) f(take) f(give) f(prefetch)

enum class Op : uint16_t {
#define FASTRNN_NAME(name) name,
  FASTRNN_OPERATIONS(FASTRNN_NAME) FASTRNN_MOVES(FASTRNN_NAME)
#undef FASTRNN_NAME
};

struct Instruction {
  Op op;
  uint16_t to, a, b, c;
};

// Where an operand is: in a register, or where a quantity of units lies anyway, so that it need not
// be copied first. `number` says which of those that lie there.
struct Operand {
  enum Place : uint16_t {
    kWhole,     // a register, as vectors one after the other: where no operand is elsewhere
    kRegister,  // a register, segment by segment
    kConstants,
    kVectors,
    kExtras,  // those of each unit, by offset
    kKept,
    kTemps,
    kInput,  // shares of the pre-activations
    kRecurrent,
    kBias,
    kDPre,
    kBefore,  // states, by place
    kAfter = kBefore + kMostStates,
    kGradients = kAfter + kMostStates,     // of states
    kOperands = kGradients + kMostStates,  // of products; backward their gradients
    kPlaces = kOperands + kMostProducts
  };
  uint16_t place, number;
};

// An instruction whose operands may be at any place
struct PlacedInstruction {
  Op op;
  Operand to, a, b, c;
};

struct Code {
  const PlacedInstruction* first = nullptr;
  int64_t count = 0;
  uint64_t places = 0;  // a bit for each place that it meets
};

// A run of slots
struct Slots {
  int first = 0, count = 0;

  bool has(int slot) const { return slot >= first && slot < first + count; }
};

// Equations that end where all units of a row meet. Forward they follow a product with recurrent
// weights, if any: the first is that of the hidden state and has the input's beside it; what a
// later one multiplies has been written by an earlier stage. Backward it is the product that
// follows.
struct Stages {
  int count;
  const int* product;  // [count] -1: none
};

// A per-step value of the caller's: where it stands among the features of the input, and whether
// each unit has one of its own.
struct Extra {
  int64_t offset = 0;
  bool per_unit = false;
};

}  // namespace fastrnn
