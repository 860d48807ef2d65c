// Code on places against the code on registers that it is made of: both are run by the letter, one
// number for all units of a row, and must leave the same everywhere.
#include "engine/call/placing.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <random>
#include <utility>
#include <vector>

#include "units.h"

namespace fastrnn {
namespace {

constexpr bool kForward = false, kBackward = true;
constexpr bool kFull = true, kPart = false;
constexpr int kRegisters = 4, kNumbers = 2;
constexpr double kAbove = 0.625;  // gradient of the output

typedef std::vector<Instruction> Plain;

// Slots 0 and 1 are of the input's product, 1 and 2 of the recurrent one.
Program small_program() {
  Program program;
  program.slots = 3;
  program.input = {0, 2};
  program.products = {{1, 2}};
  program.extras = {{7, true}, {70000, true}};
  return program;
}

// Memory and registers. A state after the step lies where it lay before.
class Machine {
 public:
  Machine() {
    for (int place = 0; place < Operand::kPlaces; ++place)
      for (int number = 0; number < 8; ++number) at(place, number) = 1 + place + number / 16.0;
  }

  void run(const Plain& code) {
    for (const Instruction& own : code) {
      if (kind_of(own.op) == OpKind::kSource) {
        registers_[own.to] = source(own.op, own.a);
      } else if (kind_of(own.op) == OpKind::kSink) {
        sink(own.op, own.to) += registers_[own.a];
      } else {
        registers_[own.to] =
            computed(own.op, registers_[own.a], registers_[own.b], registers_[own.c]);
      }
    }
  }

  void run(const PlacedCode& code) {
    for (const PlacedInstruction& own : code.all) {
      if (own.op == Op::prefetch) continue;
      if (kind_of(own.op) == OpKind::kSource) {
        value(own.to) = source(own.op, own.a.number);
      } else if (kind_of(own.op) == OpKind::kSink) {
        sink(own.op, own.to.number) += value(own.a);
      } else {
        value(own.to) = computed(own.op, value(own.a), value(own.b), value(own.c));
      }
    }
  }

  double& at(int place, int number) {
    const bool before = place >= Operand::kBefore && place < Operand::kAfter;
    return memory_[{place + before * (Operand::kAfter - Operand::kBefore), number}];
  }
  const std::map<std::pair<int, int>, double>& memory() const { return memory_; }

 private:
  double source(Op op, int number) {
    switch (op) {
      case Op::state:
        return at(Operand::kBefore + number, 0);
      case Op::after:
        return at(Operand::kAfter + number, 0);
      case Op::kept:
        return at(Operand::kKept, number);
      case Op::temp:
        return at(Operand::kTemps, number);
      case Op::vector:
        return at(Operand::kVectors, number);
      case Op::constant:
        return at(Operand::kConstants, number);
      case Op::extra:
        return at(Operand::kExtras, number == 0 ? 7 : 8);
      case Op::input:
        return at(Operand::kInput, number);
      case Op::hidden:
        return (number < 2 ? 0 : at(Operand::kBias, number)) + at(Operand::kRecurrent, number - 1);
      case Op::pre:
        return at(Operand::kInput, number) + at(Operand::kRecurrent, number - 1);
      case Op::d_state:
        return at(Operand::kGradients + number, 0) + (number == kHidden ? kAbove : 0);
      default:  // d_operand
        return at(Operand::kOperands + number, 0);
    }
  }

  double& cleared(double& where) { return where = 0; }
  double& sink(Op op, int number) {
    switch (op) {
      case Op::keep:
        return cleared(at(Operand::kKept, number));
      case Op::set_temp:
        return cleared(at(Operand::kTemps, number));
      case Op::set_d_pre:
        return cleared(at(Operand::kDPre, number));
      case Op::set_state:
        return cleared(at(Operand::kAfter + number, 0));
      case Op::set_operand:
        return cleared(at(Operand::kOperands + number, 0));
      case Op::set_d_state:
        return cleared(at(Operand::kGradients + number, 0));
      default:  // add_d_vector
        return memory_[{Operand::kPlaces, number}];
    }
  }

  static double computed(Op op, double a, double b, double c) {
    switch (op) {
      case Op::neg:
        return -a;
      case Op::add:
        return a + b;
      case Op::fma:
        return a * b + c;
      default:  // copy, take, give
        return a;
    }
  }

  double& value(Operand operand) {
    const bool in_register = operand.place <= Operand::kRegister;
    return in_register ? registers_[operand.number] : at(operand.place, operand.number);
  }

  std::map<std::pair<int, int>, double> memory_;
  double registers_[kRegisters] = {};
};

PlacedCode placed(const Plain& code, bool backward, bool full) {
  return place_code(small_program(), code, backward ? -1 : 0, backward, full);
}

bool leaves_the_same(const Plain& code, bool backward, bool full) {
  Machine plain, other;
  plain.run(code);
  other.run(placed(code, backward, full));
  return plain.memory() == other.memory();
}

// Instructions of all kinds, of which each reads registers that have been written.
Plain random_code(std::mt19937& random, bool backward) {
  const std::vector<Op> sources =
      backward ? std::vector<Op>{Op::state, Op::kept,    Op::vector,    Op::constant, Op::extra,
                                 Op::after, Op::d_state, Op::d_operand, Op::temp}
               : std::vector<Op>{Op::state, Op::kept,  Op::vector, Op::constant,
                                 Op::extra, Op::input, Op::hidden, Op::pre};
  const std::vector<Op> sinks =
      backward ? std::vector<Op>{Op::set_d_pre, Op::set_d_state, Op::set_temp, Op::add_d_vector}
               : std::vector<Op>{Op::set_state, Op::set_operand, Op::keep};
  const std::vector<Op> arithmetic = {Op::neg, Op::add, Op::fma};
  const auto below = [&](int count) { return static_cast<int>(random() % count); };
  const auto one_of = [&](const std::vector<Op>& all) { return all[below(int(all.size()))]; };
  Plain code;
  for (int i = 0; i < kRegisters; ++i) code.push_back(make_instruction("constant", i, i % 2, 0, 0));
  for (int i = 0; i < 24; ++i) {
    Instruction own = {one_of(arithmetic), uint16_t(below(kRegisters)), uint16_t(below(kRegisters)),
                       uint16_t(below(kRegisters)), uint16_t(below(kRegisters))};
    const int kind = below(3);
    if (kind == 0) {
      own.op = one_of(sources);
      own.a = uint16_t(below(kNumbers) + (own.op == Op::hidden || own.op == Op::pre));
      if (own.op == Op::pre) own.a = 1;
    } else if (kind == 1) {
      own.op = one_of(sinks);
      own.to = uint16_t(below(kNumbers));
    }
    code.push_back(own);
  }
  return code;
}

UNIT(code_on_places_leaves_what_code_on_registers_leaves) {
  std::mt19937 random(7);
  for (int i = 0; i < 4000; ++i) {
    const bool backward = i % 2;
    const Plain code = random_code(random, backward);
    EXPECT(leaves_the_same(code, backward, kFull));
    EXPECT(leaves_the_same(code, backward, kPart));
  }
}

// f = -pre, which is kept, and c = f * c + p
const Plain kCell = {{Op::pre, 0, 1, 0, 0},      {Op::neg, 0, 0, 0, 0},    {Op::keep, 0, 0, 0, 0},
                     {Op::state, 1, 1, 0, 0},    {Op::vector, 2, 0, 0, 0}, {Op::fma, 0, 0, 1, 2},
                     {Op::set_state, 1, 0, 0, 0}};

UNIT(nothing_is_copied_where_panels_are_full) {
  const PlacedCode code = placed(kCell, kForward, kFull);
  EXPECT_EQUAL(int(code.all.size()), 3);  // add, neg, fma
  EXPECT_EQUAL(int(code.all[1].to.place), int(Operand::kKept));
  EXPECT_EQUAL(int(code.all[2].a.place), int(Operand::kKept));
  EXPECT_EQUAL(int(code.all[2].b.place), int(Operand::kBefore) + 1);
  EXPECT_EQUAL(int(code.all[2].c.place), int(Operand::kVectors));
  EXPECT_EQUAL(int(code.all[2].to.place), int(Operand::kAfter) + 1);
  EXPECT(code.places >> Operand::kVectors & 1);
}

UNIT(what_ends_with_the_last_unit_is_taken_into_a_register_first) {
  const PlacedCode code = placed(kCell, kForward, kPart);
  EXPECT_EQUAL(int(code.all.size()), 4);
  EXPECT_EQUAL(std::count_if(code.all.begin(), code.all.end(),
                             [](const PlacedInstruction& own) { return own.op == Op::take; }),
               1);
}

UNIT(what_is_read_after_its_place_is_written_is_copied_before) {
  const Plain code = {{Op::kept, 0, 0, 0, 0},
                      {Op::kept, 1, 1, 0, 0},
                      {Op::keep, 0, 1, 0, 0},
                      {Op::keep, 1, 0, 0, 0}};
  EXPECT_EQUAL(int(placed(code, kForward, kFull).all.size()), 3);
  EXPECT(leaves_the_same(code, kForward, kFull));
}

// Code of rows wrote register 2, and nothing of the units is in it yet.
UNIT(what_is_spread_is_no_value_of_the_units) {
  const Plain code = {{Op::pre, 0, 1, 0, 0},      {Op::neg, 1, 0, 0, 0},    {Op::state, 0, 1, 0, 0},
                      {Op::keep, 0, 0, 0, 0},     {Op::spread, 0, 2, 0, 0}, {Op::add, 2, 0, 1, 0},
                      {Op::set_state, 0, 2, 0, 0}};
  EXPECT(leaves_the_same(code, kForward, kFull));
  EXPECT(leaves_the_same(code, kForward, kPart));
}

}  // namespace
}  // namespace fastrnn
