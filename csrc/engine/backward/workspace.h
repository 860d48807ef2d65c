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
    Real* w_ih;  // column panels over I, over H_out and (w_hr) over H; the first two unless read in
                 // place
    Real* w_hh;
    Real* w_last;  // of w_hh, the last gate of a cell of two stages
    Real* w_hr;
    Real* peepholes;  // [gate panels][slots][unit], if there are any
    Real* d_pre;      // [gate panels][rows of a block][slots][units that the panel has]
    Real* d_y;        // [rows of a block][H_out padded] with a projection: gradient of its output
    Real* d_h;        // [B][H_out padded]
    Real* d_raw;      // [B][H padded] gradient of what a second product takes (see Saved)
    Real* d_c;        // [B][units]
    Real* cell;       // [B][units] initial state
    Real* x;          // column panels of a block's rows of the input,
    Real* h;          // of the previous hidden state,
    Real* raw;        // and of what a second product takes
    Real* d_x;        // [rows][I] of the reverse direction
  };
  struct Thread {
    const Real** a;
    const Real** b;  // rows of a weight matrix that is read in place, or of cell states
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
    const bool two_stages = panels.cell.two_stages();
    const bool in_place = plan.weights_in_place;
    const int64_t gate_rows = panels.cell.gates * shape.H;
    blocks = plan.batch.blocks(kBackwardBlockRows);
    block_rows = std::min(plan.batch.rows(), std::max(kBackwardBlockRows, B));
    for (int64_t d = 0; d < shape.directions; ++d) {
      Direction& dir = directions[d];
      dir.w_ih = arena.take<Real>(in_place ? 0 : gate_rows * in_padded);
      dir.w_hh = arena.take<Real>(in_place ? 0 : panels.cell.hidden_gates * shape.H * out_padded);
      dir.w_last = two_stages ? arena.take<Real>(shape.H * H_padded) : nullptr;
      dir.peepholes =
          shape.variant.peepholes ? arena.take<Real>(panels.gates * panels.width) : nullptr;
      dir.d_pre = arena.take<Real>(block_rows * panels.gates * panels.width);
      dir.d_h = arena.take<Real>(B * out_padded);
      dir.x = arena.take<Real>(block_rows * in_padded);
      dir.h = arena.take<Real>(block_rows * out_padded);
      dir.w_hr = P ? arena.take<Real>(P * H_padded) : nullptr;
      dir.d_y = P ? arena.take<Real>(block_rows * out_padded) : nullptr;
      dir.d_raw = P || two_stages ? arena.take<Real>(B * H_padded) : nullptr;
      dir.raw = P || two_stages ? arena.take<Real>(block_rows * H_padded) : nullptr;
      const bool cell = panels.cell.has_cell_state;
      dir.d_c = cell ? arena.take<Real>(B * panels.units) : nullptr;
      dir.cell = cell ? arena.take<Real>(B * panels.units) : nullptr;
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
  Real* zeros;              // a state of zeros, h or c
  std::vector<Thread> threads;
};

}  // namespace fastrnn
