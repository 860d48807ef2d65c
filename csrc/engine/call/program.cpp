#include "program.h"

#include <algorithm>
#include <map>
#include <stdexcept>

#include "api.h"
#include "placing.h"

namespace fastrnn {
namespace {

const std::map<std::string, Op>& operations() {
  static const std::map<std::string, Op> all = {
#define FASTRNN_ENTRY(name) {#name, Op::name},
      FASTRNN_OPERATIONS(FASTRNN_ENTRY)
#undef FASTRNN_ENTRY
  };
  return all;
}

// How many of what an instruction's number counts there are
int count_of(const Program& program, Op op, bool save, bool backward) {
  switch (op) {
    case Op::input:
    case Op::hidden:
    case Op::pre:
      return backward ? 0 : program.slots;
    case Op::state:
      return program.states;
    case Op::after:
    case Op::d_state:
    case Op::set_d_state:
      return backward ? program.states : 0;
    case Op::kept:
      return backward || save ? program.saved : program.kept;
    case Op::keep:
      return backward ? 0 : save ? program.saved : program.kept;
    case Op::vector:
      return program.vectors;
    case Op::extra:
      return static_cast<int>(program.extras.size());
    case Op::add_d_extra:
      return backward ? static_cast<int>(program.extras.size()) : 0;
    case Op::constant:
      return static_cast<int>(program.constants.size());
    case Op::sum:
    case Op::add_to_sum:
      return backward ? program.backward_sums : program.forward_sums;
    case Op::d_operand:
      return backward ? static_cast<int>(program.products.size()) : 0;
    case Op::temp:
    case Op::set_temp:
      return backward ? program.temps : 0;
    case Op::set_state:
      return backward ? 0 : program.first_held();
    case Op::set_operand:
      return backward ? 0 : static_cast<int>(program.products.size());
    case Op::set_d_pre:
      return backward ? program.slots : 0;
    case Op::add_d_vector:
      return backward ? program.vectors : 0;
    default:
      return 0;
  }
}

void expect(bool right, const std::string& what) {
  if (!right) throw std::invalid_argument("program: " + what);
}

std::vector<Instruction> all_of(const ProgramStage& stage) {
  std::vector<Instruction> all = stage.of_rows;
  all.insert(all.end(), stage.code.begin(), stage.code.end());
  return all;
}

// Rows' numbers come from numbers, and go where those are kept.
void check_rows(const ProgramStage& stage) {
  for (const Instruction& own : stage.of_rows) {
    const bool number = own.op == Op::constant || own.op == Op::sum || own.op == Op::kept ||
                        own.op == Op::temp || own.op == Op::keep || own.op == Op::set_temp;
    expect(number || (kind_of(own.op) == OpKind::kArithmetic && own.op != Op::spread),
           "code of rows reads or writes what units have");
  }
}

// Shares of pre-activations are there for the slots of their products alone.
void check_shares(const Program& program, const ProgramStage& stage, int product) {
  for (const Instruction& own : stage.code) {
    const bool input = own.op == Op::input || own.op == Op::pre;
    const bool recurrent = own.op == Op::hidden || own.op == Op::pre;
    expect(!input || program.input.has(own.a), "a slot is none of the input's");
    expect(!recurrent || (product >= 0 && program.products[product].has(own.a)),
           "a slot is none of the stage's product");
  }
}

// What a register holds was written there by earlier code of the same kind; what is spread to
// units, by that of rows.
void check_reads(const ProgramStage& stage) {
  std::vector<bool> by_rows(UINT16_MAX + 1), by_units(UINT16_MAX + 1);
  for (const std::vector<Instruction>* code : {&stage.of_rows, &stage.code}) {
    std::vector<bool>& written = code == &stage.code ? by_units : by_rows;
    for (const Instruction& own : *code) {
      const std::vector<bool>& before = own.op == Op::spread ? by_rows : written;
      const uint16_t from[] = {own.a, own.b, own.c};
      for (int i = 0; i < registers_read(own.op); ++i)
        expect(before[from[i]], "a register is read that nothing has been written to");
      if (kind_of(own.op) == OpKind::kSink) continue;
      by_rows[own.to] = false;
      written[own.to] = true;
    }
  }
}

void check_pass(const Program& program, const ProgramPass& pass, bool save, bool backward) {
  expect(!pass.stages.empty(), "no stages");
  expect(pass.product.size() == pass.stages.size(), "product is not of all stages");
  for (int product : pass.product)
    expect(product >= -1 && product < static_cast<int>(program.products.size()),
           "a stage's product is none of its products");
  for (size_t i = 0; i < pass.stages.size(); ++i) {
    const ProgramStage& stage = pass.stages[i];
    check_rows(stage);
    if (!backward) check_shares(program, stage, pass.product[i]);
    for (const Instruction& own : all_of(stage)) {
      const OpKind kind = kind_of(own.op);
      const bool writes = kind != OpKind::kSink;
      const int numbered = kind == OpKind::kSource ? own.a : own.to;
      // What the first product multiplies is the hidden state, and has no other place.
      const int least = own.op == Op::set_operand || own.op == Op::d_operand;
      if (kind != OpKind::kArithmetic)
        expect(numbered >= least && numbered < count_of(program, own.op, save, backward),
               "a number is out of range");
      const uint16_t from[] = {own.a, own.b, own.c};
      for (int i = 0; i < registers_read(own.op); ++i)
        expect(from[i] < stage.registers, "a register is out of range");
      expect(!writes || own.to < stage.registers, "a register is out of range");
    }
    check_reads(stage);
  }
}

bool within(const Slots& slots, int count) {
  return slots.first >= 0 && slots.count >= 0 && slots.first + slots.count <= count;
}

bool reads_input(const ProgramStage& stage) {
  return std::any_of(stage.code.begin(), stage.code.end(), [](const Instruction& own) {
    return own.op == Op::input || own.op == Op::pre;
  });
}

// The input's share may be there in registers alone, and so in one stage.
int stage_of_input(const ProgramPass& pass) {
  const auto first = std::find_if(pass.stages.begin(), pass.stages.end(), reads_input);
  if (first == pass.stages.end()) return 0;
  expect(std::none_of(first + 1, pass.stages.end(), reads_input), "two stages read the input");
  return static_cast<int>(first - pass.stages.begin());
}

double cycles_of(Op op) {
  switch (op) {
    case Op::log:
    case Op::log1p:
    case Op::sin:
    case Op::cos:
    case Op::erf:
      return 60;
    case Op::exp:
    case Op::expm1:
    case Op::sigmoid:
    case Op::tanh:
    case Op::softplus:
      return 14;
    case Op::prefetch:
      return 0;
    case Op::div:
    case Op::sqrt:
    case Op::reciprocal:
      return 5;
    default:
      return 2;
  }
}

void place_pass(const Program& program, ProgramPass* pass, bool backward) {
  for (size_t i = 0; i < pass->stages.size(); ++i) {
    ProgramStage& stage = pass->stages[i];
    stage.whole = place_code(program, stage.code, pass->product[i], backward, true);
    stage.part = place_code(program, stage.code, pass->product[i], backward, false);
    stage.rows = place_rows(stage.of_rows);
    for (const PlacedInstruction& own : stage.whole.all) pass->cycles += cycles_of(own.op);
  }
}

}  // namespace

OpKind kind_of(Op op) {
  if (op <= Op::temp) return OpKind::kSource;
  return op <= Op::add_d_extra ? OpKind::kSink : OpKind::kArithmetic;
}

int registers_read(Op op) {
  if (kind_of(op) == OpKind::kSource) return 0;
  if (op <= Op::one_minus) return 1;
  return op <= Op::d_relu ? 2 : 3;
}

void Program::complete() {
  expect(gates > 0 && slots >= 0 && vectors >= 0, "too few gates, slots or vectors");
  expect(states >= 1 && states <= kMostStates, "too few or too many states");
  expect(held >= 0 && first_held() >= 1, "all states are held");
  expect(!products.empty() && products.size() <= kMostProducts, "too few or too many products");
  expect(static_cast<int>(gate_of_slot.size()) == slots, "gate_of_slot is not of all slots");
  for (int gate : gate_of_slot) expect(gate >= 0 && gate < gates, "a gate is out of range");
  expect(within(input, slots), "the input's slots are out of range");
  for (const Slots& own : products)
    expect(within(own, slots), "a product's slots are out of range");
  expect(static_cast<int>(initial.size()) == states, "initial is not of all states");
  expect(heads >= 1, "too few heads");
  for (const Extra& extra : extras) expect(extra.offset >= 0, "an extra lies before the others");
  expect(kept >= 0 && saved >= 0 && temps >= 0 && forward_sums >= 0 && backward_sums >= 0,
         "a negative number of quantities");
  check_pass(*this, forward, false, false);
  check_pass(*this, forward_saving, true, false);
  check_pass(*this, backward, true, true);

  for (ProgramPass* pass : {&forward, &forward_saving, &backward}) {
    for (const ProgramStage& stage : pass->stages) registers = std::max(registers, stage.registers);
    pass->input = stage_of_input(*pass);
    place_pass(*this, pass, pass == &backward);
  }
  for (const ProgramStage& stage : backward.stages) {
    for (const Instruction& own : stage.code) {
      sets_hidden_gradient |= own.op == Op::set_d_state && own.to == kHidden;
      adds_extra_gradients |= own.op == Op::add_d_extra;
    }
  }
  meets = forward_sums > 0 || backward_sums > 0;
  for (const Slots& slots : products) meets |= slots.count > 0;
}

void Program::check_projection() const {
  expect(heads == 1 && products.size() == 1 && products[0].count > 0,
         "with a projection there is one product, and a dense one");
  for (const ProgramPass* pass : {&forward, &forward_saving, &backward}) {
    for (const ProgramStage& stage : pass->stages) {
      for (const Instruction& own : stage.code) {
        expect(own.op != Op::state || own.a != kHidden,
               "with a projection no equation reads the hidden state before");
      }
    }
  }
}

Instruction make_instruction(const std::string& op, int to, int a, int b, int c) {
  const auto found = operations().find(op);
  expect(found != operations().end(), "there is no operation " + op);
  for (int number : {to, a, b, c})
    expect(number >= 0 && number <= UINT16_MAX, "a number is negative");
  const auto small = [](int number) { return static_cast<uint16_t>(number); };
  return {found->second, small(to), small(a), small(b), small(c)};
}

}  // namespace fastrnn
