#include "placing.h"

#include <algorithm>
#include <cstdint>
#include <optional>

namespace fastrnn {
namespace {

Operand at(int place, int number) {
  return {static_cast<uint16_t>(place), static_cast<uint16_t>(number)};
}

Operand whole_register(int number) { return at(Operand::kWhole, number); }
Operand in_register(int number) { return at(Operand::kRegister, number); }

bool is_register(Operand operand) { return operand.place == Operand::kRegister; }

void note(PlacedCode* code, Operand operand) { code->places |= uint64_t{1} << operand.place; }

// Does a write to one change what is read from the other? A state after the step may lie where it
// lay before.
bool overlap(Operand written, Operand read) {
  const bool before = read.place >= Operand::kBefore && read.place < Operand::kAfter;
  const int place = read.place + (Operand::kAfter - Operand::kBefore);
  return (written.place == read.place && written.number == read.number) ||
         (before && written.place == place);
}

class Placing {
 public:
  Placing(const Program& program, const std::vector<Instruction>& code, int product, bool backward,
          bool full)
      : program_(program),
        code_(code),
        slots_(product < 0 ? Slots{} : program.products[static_cast<size_t>(product)]),
        backward_(backward),
        full_(full),
        last_read_(code.size()),
        done_(code.size()),
        found_(static_cast<size_t>(count_registers())) {
    find_last_reads();
  }

  PlacedCode run() {
    for (size_t i = 0; i < code_.size(); ++i) {
      if (done_[i]) continue;
      switch (kind_of(code_[i].op)) {
        case OpKind::kSource:
          read(i);
          break;
        case OpKind::kSink:
          write(i);
          break;
        default:
          compute(i);
      }
    }
    return std::move(placed_);
  }

 private:
  // What a register would hold: where it is found instead, and up to which instruction
  struct Found {
    Operand where = {};
    size_t until = 0;
  };

  int count_registers() const {
    int count = 0;
    for (const Instruction& own : code_) {
      if (kind_of(own.op) != OpKind::kSink) count = std::max(count, own.to + 1);
    }
    return count;
  }

  // Of each value, the instruction that reads it last; its own if none does.
  void find_last_reads() {
    std::vector<size_t> writer(found_.size());
    for (size_t i = 0; i < code_.size(); ++i) {
      const uint16_t from[] = {code_[i].a, code_[i].b, code_[i].c};
      // What is spread was written by code of rows.
      const int reads = code_[i].op == Op::spread ? 0 : registers_read(code_[i].op);
      for (int k = 0; k < reads; ++k) last_read_[writer[from[k]]] = i;
      if (kind_of(code_[i].op) == OpKind::kSink) continue;
      writer[code_[i].to] = i;
      last_read_[i] = i;
    }
  }

  // Where a source's quantity lies
  std::optional<Operand> place_of_source(const Instruction& own) const {
    switch (own.op) {
      case Op::constant:
        return at(Operand::kConstants, own.a);
      case Op::vector:
        return at(Operand::kVectors, own.a);
      case Op::kept:
        return at(Operand::kKept, own.a);
      case Op::temp:
        return at(Operand::kTemps, own.a);
      case Op::input:
        return at(Operand::kInput, own.a - program_.input.first);
      case Op::state:
        return at(Operand::kBefore + own.a, 0);
      case Op::after:
        return at(Operand::kAfter + own.a, 0);
      case Op::d_operand:
        return at(Operand::kOperands + own.a, 0);
      case Op::d_state:
        return at(Operand::kGradients + own.a, 0);
      case Op::extra: {
        const Extra& extra = program_.extras[own.a];
        if (!extra.per_unit || extra.offset > UINT16_MAX) return {};
        return at(Operand::kExtras, static_cast<int>(extra.offset));
      }
      default:
        return {};
    }
  }

  std::optional<Operand> place_of_sink(const Instruction& own) const {
    switch (own.op) {
      case Op::keep:
        return at(Operand::kKept, own.to);
      case Op::set_temp:
        return at(Operand::kTemps, own.to);
      case Op::set_d_pre:
        return at(Operand::kDPre, own.to);
      case Op::set_operand:
        return at(Operand::kOperands + own.to, 0);
      case Op::set_state:
        return at(Operand::kAfter + own.to, 0);
      case Op::set_d_state:
        return at(Operand::kGradients + own.to, 0);
      default:
        return {};
    }
  }

  // Has every panel room for whole vectors there?
  bool has_room(Operand where) const {
    if (full_) return true;
    switch (where.place) {
      case Operand::kVectors:
      case Operand::kExtras:
      case Operand::kDPre:
      case Operand::kBefore + kHidden:
      case Operand::kAfter + kHidden:
        return false;
      default:
        return backward_ || where.place < Operand::kOperands;
    }
  }

  void emit(Op op, Operand to, Operand a, Operand b, Operand c) {
    for (Operand operand : {to, a, b, c}) note(&placed_, operand);
    placed_.all.push_back({op, to, a, b, c});
  }
  void emit(Op op, Operand to, Operand a) { emit(op, to, a, a, a); }

  Operand operand(int number) const { return found_[static_cast<size_t>(number)].where; }

  void hold(size_t i, Operand where) { found_[code_[i].to] = {where, last_read_[i]}; }

  void read(size_t i) {
    const Instruction& own = code_[i];
    const Operand to = in_register(own.to);
    if (own.op == Op::hidden || own.op == Op::pre) return add_shares(i);
    if (backward_ && own.op == Op::kept) emit(Op::prefetch, to, at(Operand::kKept, own.a));
    const bool joined = own.op == Op::d_state && own.a == kHidden;  // by that of the output
    const std::optional<Operand> where = place_of_source(own);
    if (where && !joined && has_room(*where)) return hold(i, *where);
    hold(i, to);
    if (where && !joined) {
      emit(Op::take, to, *where);
    } else {
      emit(own.op, to, in_register(own.a));
    }
  }

  // A pre-activation is the sum of its shares; the recurrent one may have a bias of its own.
  void add_shares(size_t i) {
    const Instruction& own = code_[i];
    const Slots& input = program_.input;
    const Operand recurrent = at(Operand::kRecurrent, own.a - slots_.first);
    if (own.op == Op::hidden && input.has(own.a)) return hold(i, recurrent);
    const Operand other =
        own.op == Op::hidden ? at(Operand::kBias, own.a) : at(Operand::kInput, own.a - input.first);
    const Operand to = result_of(i);
    emit(Op::add, to, other, recurrent, recurrent);
  }

  // Where an instruction's result goes at once: to the first place that a sink takes it to, if
  // nothing else is read there or goes there until then.
  Operand result_of(size_t i) {
    const uint16_t own = code_[i].to;
    hold(i, in_register(own));
    for (size_t k = i + 1; k <= last_read_[i]; ++k) {
      if (kind_of(code_[k].op) != OpKind::kSink || code_[k].a != own) continue;
      const std::optional<Operand> where = place_of_sink(code_[k]);
      if (!where || !has_room(*where) || is_met(*where, i, k)) continue;
      done_[k] = true;
      hold(i, *where);
      break;
    }
    return operand(own);
  }

  bool is_met(Operand where, size_t begin, size_t end) const {
    for (const Found& other : found_)
      if (other.until > begin && overlap(where, other.where)) return true;
    for (size_t i = begin + 1; i < end; ++i) {
      const OpKind kind = kind_of(code_[i].op);
      if (kind == OpKind::kArithmetic) continue;
      const bool reads = kind == OpKind::kSource;
      const std::optional<Operand> other =
          reads ? place_of_source(code_[i]) : place_of_sink(code_[i]);
      if (other && (reads ? overlap(where, *other) : overlap(*other, where))) return true;
    }
    return false;
  }

  void write(size_t i) {
    const Instruction& own = code_[i];
    const Operand from = operand(own.a);
    const std::optional<Operand> where = place_of_sink(own);
    if (!where) return emit(own.op, at(Operand::kRegister, own.to), from);
    save_from(*where, i);
    if (has_room(*where)) {
      emit(Op::copy, *where, from);
    } else {
      emit(Op::give, *where, from);
    }
  }

  // Copies to registers what lies where instruction i will write, and is read later.
  void save_from(Operand where, size_t i) {
    for (size_t number = 0; number < found_.size(); ++number) {
      Found& own = found_[number];
      if (own.until <= i || is_register(own.where) || !overlap(where, own.where)) continue;
      emit(Op::copy, in_register(static_cast<int>(number)), own.where);
      own.where = in_register(static_cast<int>(number));
    }
  }

  void compute(size_t i) {
    const Instruction& own = code_[i];
    if (own.op == Op::spread) {
      hold(i, in_register(own.to));
      return emit(own.op, in_register(own.to), whole_register(own.a));
    }
    const int reads = registers_read(own.op);
    Operand a = operand(own.a), b = reads > 1 ? operand(own.b) : a,
            c = reads > 2 ? operand(own.c) : a;
    Operand to = result_of(i);
    if (is_register(to) && is_register(a) && is_register(b) && is_register(c))
      for (Operand* one : {&to, &a, &b, &c}) one->place = Operand::kWhole;
    emit(own.op, to, a, b, c);
  }

  const Program& program_;
  const std::vector<Instruction>& code_;
  const Slots slots_;
  const bool backward_, full_;
  std::vector<size_t> last_read_;
  std::vector<bool> done_;  // of each sink, whether its value goes there at once
  std::vector<Found> found_;
  PlacedCode placed_;
};

}  // namespace

PlacedCode place_code(const Program& program, const std::vector<Instruction>& code, int product,
                      bool backward, bool full) {
  return Placing(program, code, product, backward, full).run();
}

PlacedCode place_rows(const std::vector<Instruction>& code) {
  PlacedCode placed;
  for (const Instruction& own : code) {
    PlacedInstruction one = {own.op, whole_register(own.to), whole_register(own.a),
                             whole_register(own.b), whole_register(own.c)};
    switch (own.op) {
      case Op::kept:
      case Op::temp:
        one.a.place = own.op == Op::kept ? Operand::kKept : Operand::kTemps;
        one.op = Op::take;
        break;
      case Op::keep:
      case Op::set_temp:
        one.to.place = own.op == Op::keep ? Operand::kKept : Operand::kTemps;
        one.op = Op::give;
        break;
      default:
        break;
    }
    for (Operand operand : {one.to, one.a}) note(&placed, operand);
    placed.all.push_back(one);
  }
  return placed;
}

}  // namespace fastrnn
