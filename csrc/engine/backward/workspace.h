// What the backward pass works in: packed weights, a block of gate gradients, running gradients.
// The constructor that lays it out is the one that measures it.
#pragma once

#include <algorithm>
#include <vector>

#include "engine/call/plan.h"
#include "engine/schedule/machine.h"

namespace fastrnn {

template <class Real>
struct BackwardWorkspace {
  struct Direction {
    Real* w_ih;                    // column panels over I, unless read in place,
    Real* w_hh[kMostStages] = {};  // over what each stage multiplies, likewise,
    Real* w_hr;                    // and over H
    Real* peepholes;               // [gate panels][slots][unit], if there are any
    Real* d_pre;                   // [gate panels][rows of a block][slots][units of the panel]
    Real* d_y;                     // [rows of a block][H_out padded] of a projection's output
    Real* d_raw;                   // [B][H padded] of the hidden state before it
    // [B][H_out padded] of the hidden state, [B][units] of the others
    Real* d_states[kMostStates] = {};
    // [B][H padded] of what a stage after the first multiplies
    Real* d_operands[kMostStages] = {};
    Real* initial[kMostStates] = {};   // [B][units] states, but the hidden one
    Real* x;                           // column panels of a block's rows of the input,
    Real* operands[kMostStages] = {};  // of what each stage multiplies,
    Real* raw;                         // and of the hidden state before the projection
    Real* d_x;                         // [rows][I] of the reverse direction
  };
  struct Thread {
    const Real** a;
    const Real** b;  // rows of a weight matrix that is read in place, or of a state
    Real** c;
    BackwardRow<Real>* rows;
  };

  BackwardWorkspace(const Plan& plan, Arena& arena) {
    const Panels<Real> panels(plan);
    const Shape& shape = plan.shape;
    const int64_t in = shape.widest_in();
    const int64_t B = plan.batch.B(), P = shape.P;
    const int64_t out_padded = panels.padded(shape.out()), in_padded = panels.padded(in),
                  H_padded = panels.padded(shape.H);
    const CellKernels<Real>& cell = panels.cell;
    const bool in_place = plan.weights_in_place;
    const int64_t gate_rows = cell.gates * shape.H;
    blocks = plan.batch.blocks(kBackwardBlockRows);
    block_rows = std::min(plan.batch.rows(), std::max(kBackwardBlockRows, B));
    for (int64_t d = 0; d < shape.directions; ++d) {
      Direction& dir = directions[d];
      dir.w_ih = arena.take<Real>(in_place ? 0 : gate_rows * in_padded);
      for (int i = 0; i < cell.stages; ++i) {
        const int64_t rows = cell.stage[i].slots * shape.H;
        dir.w_hh[i] = arena.take<Real>(in_place ? 0 : rows * panels.padded(shape.operand_width(i)));
      }
      dir.peepholes =
          shape.variant.peepholes ? arena.take<Real>(panels.gates * panels.width) : nullptr;
      dir.d_pre = arena.take<Real>(block_rows * panels.gates * panels.width);
      for (int s = 0; s < cell.states; ++s)
        dir.d_states[s] = arena.take<Real>(B * panels.gradient_width(shape, s));
      dir.x = arena.take<Real>(block_rows * in_padded);
      for (int i = 0; i < cell.stages; ++i)
        dir.operands[i] = arena.take<Real>(block_rows * panels.padded(shape.operand_width(i)));
      dir.w_hr = P ? arena.take<Real>(P * H_padded) : nullptr;
      dir.d_y = P ? arena.take<Real>(block_rows * out_padded) : nullptr;
      dir.d_raw = P ? arena.take<Real>(B * H_padded) : nullptr;
      dir.raw = P ? arena.take<Real>(block_rows * H_padded) : nullptr;
      for (int i = 1; i < cell.stages; ++i) dir.d_operands[i] = arena.take<Real>(B * H_padded);
      for (int s = 1; s < cell.states; ++s) dir.initial[s] = arena.take<Real>(B * panels.units);
      dir.d_x = d > 0 ? arena.take<Real>(plan.batch.rows() * in) : nullptr;
    }
    if (shape.layers > 1) {
      for (Real*& gradient : d_outputs)
        gradient = arena.take<Real>(plan.batch.rows() * shape.directions * shape.out());
    }
    zeros = arena.take<Real>(std::max(shape.out(), panels.units));
    for (int i = 0; i < plan.threads; ++i) {
      const int64_t pointers = std::max({block_rows, B, gate_rows, P});
      threads.push_back(
          {arena.take<const Real*>(pointers),
           arena.take<const Real*>(in_place || shape.variant.peepholes ? pointers : 0),
           arena.take<Real*>(pointers), arena.take<BackwardRow<Real>>(B)});
    }
  }

  std::vector<int64_t> blocks;
  int64_t block_rows;
  Direction directions[2];
  Real* d_outputs[2] = {};  // gradients of this layer's output and of the one's below, by turns
  Real* zeros;              // a state of zeros
  std::vector<Thread> threads;
};

}  // namespace fastrnn
