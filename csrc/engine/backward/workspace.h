// What the backward pass works in: packed weights, a block of gate gradients, running gradients.
// The constructor that lays it out is the one that measures it.
#pragma once

#include <algorithm>
#include <vector>

#include "engine/call/plan.h"
#include "engine/call/program_room.h"
#include "engine/schedule/machine.h"

namespace fastrnn {

// Whether a call that packs its weights in a format multiplies by it backward as well: not where a
// block on the diagonal has weights of its own.
inline bool multiplies_in_format(const Plan& plan) {
  return plan.format != Format::kPlain && plan.shape.heads == 1;
}

// Rows that are rounded together for such a product
constexpr int64_t kRowsInFormat = 96;

template <class Real>
struct BackwardWorkspace {
  struct Direction {
    Real* w_ih;                      // column panels over I, unless read in place,
    Real* w_hh[kMostProducts] = {};  // over what each product multiplies, likewise,
    Real* w_hr;                      // and over H
    Real* d_pre;                     // [gate panels][panel_rows][slots][units of the panel]
    Real* d_y;                       // [rows of a block][H_out padded] of a projection's output
    Real* d_transposed;    // [gate panels][slots][unit][padded rows of a block], and likewise
    Real* d_y_transposed;  // [H_out padded], where products are those of a format
    Real* d_raw;           // [B][H padded] of the hidden state before it
    // [B][H_out padded] of the hidden state, [B][units] of the others
    Real* d_states[kMostStates] = {};
    // [B][H padded] of what a product after the first multiplies
    Real* d_operands[kMostProducts] = {};
    Real* initial[kMostStates] = {};     // [B][units] states, but the hidden one
    Real* x;                             // column panels of a block's rows of the input,
    Real* operands[kMostProducts] = {};  // of what each product multiplies, head by head,
    Real* raw;                           // and of the hidden state before the projection
    Real* d_x;                           // [rows][I] of the reverse direction
    // Of programs
    Real* d_extras;  // [rows][extras][units]
    Real* sums;      // [B][sums][gate panels]
    Real* temps;     // [B][gate panels][temps][unit]
    // [B][gate panels][vectors][unit] added up over the steps of a block, row by row
    Real* d_vectors;
  };
  struct Thread {
    const Real** a;
    const Real** b;  // rows of a weight matrix that is read in place
    Real** c;
    BackwardRow<Real>* rows;
    // For products in a format:
    Real* plain;     // a column panel on its way into it,
    Real* gathered;  // rows of d_pre without gaps,
    char* operands;  // and rows as it meets them
    ProgramThread<Real> program;
  };

  BackwardWorkspace(const Plan& plan, Arena& arena) {
    const Panels<Real> panels(plan);
    const Shape& shape = plan.shape;
    const int64_t in = shape.widest_in();
    const int64_t B = plan.batch.B(), P = shape.P;
    const int64_t out_padded = panels.padded(shape.out()), in_padded = panels.padded(in),
                  H_padded = panels.padded(shape.H);
    const CellKernels<Real>& cell = panels.cell;
    const Program* program = shape.program;
    const bool in_place = plan.weights_in_place;
    const int64_t gate_rows = cell.gates * shape.H;
    blocks = plan.batch.blocks(kBackwardBlockRows);
    if (program && program->adds_extra_gradients)
      extras_width = static_cast<int64_t>(program->extras.size()) * panels.units;
    block_rows = std::min(plan.batch.rows(), std::max(kBackwardBlockRows, B));
    panel_rows = block_rows | 1;
    const bool in_format = multiplies_in_format(plan);
    const int64_t padded_rows = panels.padded(block_rows);
    for (int64_t d = 0; d < shape.directions; ++d) {
      Direction& dir = directions[d];
      dir.w_ih = arena.take<Real>(in_place ? 0 : gate_rows * in_padded);
      for (int i = 0; i < cell.products; ++i) {
        const int64_t rows = panels.product_rows(shape, i);
        dir.w_hh[i] = arena.take<Real>(in_place ? 0 : rows * panels.padded(shape.operand_width(i)));
      }
      dir.d_pre = arena.take<Real>(panel_rows * panels.gates * panels.d_width);
      dir.d_transposed =
          arena.take<Real>(in_format ? panels.gates * panels.d_width * padded_rows : 0);
      dir.d_y_transposed = arena.take<Real>(in_format && P ? out_padded * padded_rows : 0);
      for (int s = 0; s < cell.states; ++s)
        dir.d_states[s] = arena.take<Real>(B * panels.gradient_width(shape, s));
      dir.x = arena.take<Real>(block_rows * in_padded);
      for (int i = 0; i < cell.products; ++i) {
        const int64_t width = shape.heads * panels.padded(shape.operand_width(i) / shape.heads);
        dir.operands[i] = arena.take<Real>(block_rows * width);
      }
      dir.w_hr = P ? arena.take<Real>(P * H_padded) : nullptr;
      dir.d_y = P ? arena.take<Real>(block_rows * out_padded) : nullptr;
      dir.d_raw = P ? arena.take<Real>(B * H_padded) : nullptr;
      dir.raw = P ? arena.take<Real>(block_rows * H_padded) : nullptr;
      for (int i = 1; i < cell.products; ++i) dir.d_operands[i] = arena.take<Real>(B * H_padded);
      for (int s = 1; s < cell.states; ++s) dir.initial[s] = arena.take<Real>(B * panels.units);
      dir.d_x = d > 0 ? arena.take<Real>(plan.batch.rows() * in) : nullptr;
      if (!program) continue;
      dir.d_extras = arena.take<Real>(plan.batch.rows() * extras_width);
      dir.sums = arena.take<Real>(B * program->backward_sums * panels.gates);
      dir.temps = arena.take<Real>(B * panels.gates * program->temps * panels.unit);
      dir.d_vectors = arena.take<Real>(B * panels.units * program->vectors);
    }
    if (shape.layers > 1) {
      for (Real*& gradient : d_outputs)
        gradient = arena.take<Real>(plan.batch.rows() * shape.directions * shape.out());
    }
    numbers = ProgramNumbers<Real>(plan, panels, arena);
    for (int i = 0; i < plan.threads; ++i) {
      const int64_t pointers = std::max({block_rows, B, gate_rows, cell.slots * shape.H, P});
      threads.push_back({arena.take<const Real*>(pointers),
                         arena.take<const Real*>(in_place ? pointers : 0),
                         arena.take<Real*>(pointers),
                         arena.take<BackwardRow<Real>>(B),
                         arena.take<Real>(in_format ? pointers * panels.column : 0),
                         arena.take<Real>(in_format ? kRowsInFormat * cell.slots * shape.H : 0),
                         arena.take<char>(kRowsInFormat * panels.format.operand_bytes(pointers)),
                         {}});
      if (program) threads.back().program = ProgramThread<Real>(*program, panels, arena);
    }
  }

  std::vector<int64_t> blocks;
  int64_t block_rows;
  // From one panel of d_pre to the next: an odd number, so that a row's parts in all panels do not
  // fall on the same lines of a cache
  int64_t panel_rows;
  int64_t extras_width = 0;  // of a row of `d_extras`; 0: code gives no gradient to any
  Direction directions[2];
  Real* d_outputs[2] = {};  // gradients of this layer's output and of the one's below, by turns
  ProgramNumbers<Real> numbers;
  std::vector<Thread> threads;
};

}  // namespace fastrnn
