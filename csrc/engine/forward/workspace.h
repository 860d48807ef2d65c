// What the forward pass works in: packed weights, a block of projected input, running states. The
// constructor that lays it out is the one that measures it.
#pragma once

#include <algorithm>
#include <vector>

#include "engine/call/plan.h"

namespace fastrnn {

template <class Real>
struct ForwardWorkspace {
  struct Direction {
    Real* w_ih;       // gate panels
    Real* w_hh;       // those of the gates that meet the hidden state at once,
    Real* w_last;     // and of the last gate of a cell of two stages
    Real* w_hr;       // column panels of the transposed matrix
    Real* bias;       // [gate panels][slots][unit]
    Real* peepholes;  // the same, if there are any
    Real* projected;  // [row groups][gate panels][rows of a block][gates][unit]
    Real* cell;       // [B][units] initial state; without `saved` and `cells`, the running one
    Real* cells;      // [rows][units] state after every step, where wanted without `saved`
    Real* gates;      // [B][gate panels][slots][unit] between two stages, without `saved`
    Real* raw;        // [B][H] what a second product takes (see Saved), without `saved`
  };
  struct Thread {
    Real* w_ih;  // one gate panel, for a single step
    Real* w_hh;
    const Real** a;
    Real** c;
    ForwardRow<Real>* rows;
  };

  ForwardWorkspace(const Plan& plan, Arena& arena) {
    const Panels<Real> panels(plan);
    const Shape& shape = plan.shape;
    const int64_t in = shape.widest_in();
    const int64_t B = plan.batch.B();
    const bool once = plan.weights_once;
    const bool two_stages = panels.cell.two_stages();
    for (int64_t d = 0; d < shape.directions; ++d) {
      Direction& dir = directions[d];
      dir.w_ih = arena.take<Real>(once ? 0 : panels.pre * in);
      dir.w_hh = arena.take<Real>(once ? 0 : panels.gates * panels.hidden_width * shape.out());
      dir.w_last = two_stages ? arena.take<Real>(panels.units * shape.H) : nullptr;
      dir.w_hr = shape.P ? arena.take<Real>(panels.padded(shape.P) * shape.H) : nullptr;
      dir.bias = arena.take<Real>(panels.gates * panels.width);
      dir.peepholes =
          shape.variant.peepholes ? arena.take<Real>(panels.gates * panels.width) : nullptr;
      dir.projected = arena.take<Real>(plan.block_rows * panels.pre);
      dir.cell = panels.cell.has_cell_state ? arena.take<Real>(B * panels.units) : nullptr;
      const bool keeps_cells = panels.cell.has_cell_state && plan.states && !plan.save;
      dir.cells = keeps_cells ? arena.take<Real>(plan.batch.rows() * panels.units) : nullptr;
      dir.gates =
          two_stages && !plan.save ? arena.take<Real>(B * panels.gates * panels.width) : nullptr;
      dir.raw = (shape.P || two_stages) && !plan.save ? arena.take<Real>(B * shape.H) : nullptr;
    }
    if (!plan.save && shape.layers > 1) {
      for (Real*& output : outputs)
        output = arena.take<Real>(plan.batch.rows() * shape.directions * shape.out());
    }
    zeros = arena.take<Real>(std::max(shape.out(), panels.units));
    for (int i = 0; i < plan.threads; ++i) {
      const int64_t pointers = std::max(plan.block_rows, B);
      Thread thread;
      thread.w_ih = arena.take<Real>(once ? in * panels.gate_width : 0);
      thread.w_hh = arena.take<Real>(once ? shape.out() * panels.gate_width : 0);
      thread.a = arena.take<const Real*>(pointers);
      thread.c = arena.take<Real*>(pointers);
      thread.rows = arena.take<ForwardRow<Real>>(B);
      threads.push_back(thread);
    }
  }

  Direction directions[2];
  Real* outputs[2] = {};  // of the layer below and of this one, by turns
  Real* zeros;            // a state of zeros, h or c
  std::vector<Thread> threads;
};

}  // namespace fastrnn
