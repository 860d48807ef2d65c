// What running a program's code needs of a workspace.
#pragma once

#include <algorithm>

#include "arena.h"
#include "plan.h"

namespace fastrnn {

// Numbers that stand in a program: constants, and what each state goes back to at a reset. Of other
// cells that is zero.
template <class Real>
struct ProgramNumbers {
  ProgramNumbers() = default;
  ProgramNumbers(const Plan& plan, const Panels<Real>& panels, Arena& arena)
      : width(std::max(plan.shape.out(), panels.units)),
        states(panels.cell.states),
        resets(arena.take<Real>(states * width)),
        unit(panels.unit),
        constants(arena.take<Real>(
            plan.shape.program ? static_cast<int64_t>(plan.shape.program->constants.size()) * unit
                               : 0)) {}

  void fill(const Program* program) const {
    for (int s = 0; s < states; ++s)
      std::fill_n(resets + s * width, width, static_cast<Real>(program ? program->initial[s] : 0));
    if (!program) return;
    Real* to = constants;
    for (double value : program->constants) to = std::fill_n(to, unit, static_cast<Real>(value));
  }
  const Real* reset(int state) const { return resets + state * width; }

  int64_t width = 0;
  int states = 0;
  Real* resets = nullptr;
  int64_t unit = 0;
  Real* constants = nullptr;  // [constants][unit]
};

// A thread's room for registers and products
template <class Real>
struct ProgramThread {
  ProgramThread() = default;
  ProgramThread(const Program& program, const Panels<Real>& panels, Arena& arena) {
    // Fewer slots may need more room, since tiles of more rows wait together then.
    int64_t room = panels.kernels.program_shares(program.input.count);
    for (const Slots& own : program.products)
      room = std::max(room, panels.kernels.program_shares(program.input.count + own.count));
    registers = arena.take<Real>(program.registers * panels.kernels.program_register);
    shares = arena.take<Real>(room);
    step = arena.take<ProgramStep<Real>>(1);
  }

  // Sets what all stages have in common, for a direction with these vectors.
  void start(const Program& program, const Panels<Real>& panels, const Real* constants,
             const Real* vectors) const {
    *step = {};
    step->constants = constants;
    step->vectors = vectors;
    step->extras = program.extras.data();
    step->gate_of_slot = program.gate_of_slot.data();
    step->registers = registers;
    step->shares = shares;
    step->heads = program.heads;
    step->input = program.input;
    step->slots = program.slots;
    step->vector_count = program.vectors;
    step->kept = static_cast<int>(panels.kept_width / panels.unit);
    step->temps = program.temps;
    step->panels = panels.gates;
    step->extras_width = panels.units;
  }

  Real* registers = nullptr;
  Real* shares = nullptr;
  ProgramStep<Real>* step = nullptr;
};

}  // namespace fastrnn
