// What the forward pass works in: packed weights, a block of projected input, running states. The
// constructor that lays it out is the one that measures it.
#pragma once

#include <algorithm>
#include <vector>

#include "engine/call/plan.h"
#include "engine/call/program_room.h"
#include "packed.h"

namespace fastrnn {

template <class Real>
struct ForwardWorkspace {
  struct Direction {
    PackedDirection<Real> packed;  // unless the plan has them
    Real* projected;               // [row groups][gate panels][rows of a block][gates][unit]
    // [B][units] but of the hidden state; without `saved` and `states`, the running ones
    Real* initial[kMostStates] = {};
    // [rows][units] the same after every step, where wanted without `saved`
    Real* states[kMostStates] = {};
    // Without `saved`:
    Real* gates;                         // [B][gate panels][kept][unit] between stages
    Real* operands[kMostProducts] = {};  // [B][H] what a product after the first multiplies
    Real* raw;                           // [B][H] the hidden state before a projection
    // Of programs
    Real* sums;  // [B][sums][gate panels]
  };
  struct Thread {
    Real* w_ih;  // one gate panel, for a single step or on its way into a format
    Real* w_hh;
    const Real** a;
    Real** c;
    ForwardRow<Real>* rows;
    char* operands;  // rows as the weights' format meets them
    ProgramThread<Real> program;
  };

  ForwardWorkspace(const Plan& plan, Arena& arena) {
    const Panels<Real> panels(plan);
    const Shape& shape = plan.shape;
    const int64_t in = shape.widest_in(), hidden = std::max(shape.out(), shape.H);
    const int64_t B = plan.batch.B();
    const bool once = plan.weights_once;
    const bool convert = !plan.packed && plan.format != Format::kPlain;
    const int products = panels.cell.products;
    const Program* program = shape.program;
    for (int64_t d = 0; d < shape.directions; ++d) {
      Direction& dir = directions[d];
      if (!plan.packed) dir.packed = PackedDirection<Real>(shape, panels, in, once, arena);
      dir.projected = arena.take<Real>(plan.block_rows * panels.pre);
      for (int s = 1; s < panels.cell.states; ++s) {
        dir.initial[s] = arena.take<Real>(B * panels.units);
        if (plan.states && !plan.save && s < panels.first_held)
          dir.states[s] = arena.take<Real>(plan.batch.rows() * panels.units);
      }
      dir.gates = panels.cell.kept && !plan.save
                      ? arena.take<Real>(B * panels.gates * panels.kept_width)
                      : nullptr;
      for (int i = 1; i < products && !plan.save; ++i)
        dir.operands[i] = arena.take<Real>(B * shape.H);
      dir.sums = program ? arena.take<Real>(B * program->forward_sums * panels.gates) : nullptr;
      dir.raw = shape.P && !plan.save ? arena.take<Real>(B * shape.H) : nullptr;
    }
    if (!plan.save && shape.layers > 1) {
      for (Real*& output : outputs)
        output = arena.take<Real>(plan.batch.rows() * shape.directions * shape.out());
    }
    numbers = ProgramNumbers<Real>(plan, panels, arena);
    for (int i = 0; i < plan.threads; ++i) {
      const int64_t pointers = std::max(plan.block_rows, B);
      Thread thread;
      thread.w_ih = arena.take<Real>(once      ? in * panels.gate_width
                                     : convert ? FormatPacking<Real>::room(shape, panels)
                                               : 0);
      thread.w_hh = arena.take<Real>(once ? shape.out() * panels.product_width(0) : 0);
      thread.a = arena.take<const Real*>(pointers);
      thread.c = arena.take<Real*>(pointers);
      thread.rows = arena.take<ForwardRow<Real>>(B);
      thread.operands = arena.take<char>(
          pointers * (panels.format.operand_bytes(in) + panels.format.operand_bytes(hidden)));
      if (program) thread.program = ProgramThread<Real>(*program, panels, arena);
      threads.push_back(thread);
    }
  }

  Direction directions[2];
  Real* outputs[2] = {};  // of the layer below and of this one, by turns
  ProgramNumbers<Real> numbers;
  std::vector<Thread> threads;
};

}  // namespace fastrnn
