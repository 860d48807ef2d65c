// What the drivers ask of an instruction set: a table of functions and the arguments of each. The
// only door between the code that is compiled once (drivers) and the code that is compiled per ISA
// (kernels/isa).
#pragma once

#include "code.h"
#include "engine/call/api.h"

namespace fastrnn {

// Panels. A product's right-hand operand is cut into panels of `width` columns, [panel][k][width],
// zero beyond the last column, so that the innermost loop reads it as one stream. Two kinds of
// width exist:
//   gate panels:   `unit_width` units with all their gates side by side, [slot][unit]
//   column panels: `column_width` plain columns
// A program has as many gates as it likes: a unit's slots have gate panels of one gate each, as
// wide as column panels, first all of one slot and then all of the next. A call works on the panels
// panel_begin .. panel_end of an operand; `panels` is where the first of these lies.

// Gate panels out of torch's w[gate * units + unit][k].
template <class Real>
struct PackGates {
  const void* w;  // of `source`
  int64_t units;
  int64_t K;
  int gates;
  const int* gate;  // [gates] torch's gate that stands at each place of the panel
  int64_t unit_width;
  Real* panels;  // [panel][K][gates][unit_width]
  int64_t panel_begin, panel_end;
  Source source = Source::kPlain;
};

// Column panels out of rows that are contiguous already.
template <class Real>
struct PackRows {
  const Real* const* rows;  // [K]
  int64_t K;
  int64_t columns;
  Real* panels;  // [panel][K][column_width]
  int64_t panel_stride;
  int64_t panel_begin, panel_end;
};

// What k goes through in a row of a left-hand operand: `runs` runs of `run` contiguous elements,
// `jump` elements apart, and then `tail` more from `tail_at` on.
struct Runs {
  int64_t run;
  int64_t runs = 1;
  int64_t jump = 0;
  int64_t tail_at = 0;
  int64_t tail = 0;
};

// A row whose elements were rounded to one or two bytes, in whole cache lines: its scale in one of
// its own, then those and kRowPadding zeros, with room to read a line's bytes from any of them on
constexpr int64_t kRowScaleBytes = 64, kRowPadding = 4;
constexpr int64_t rounded_row_bytes(int64_t K, int64_t element) {
  return kRowScaleBytes + (element * K + 64 + 63) / 64 * 64;
}

// c[row][panel] = init[panel] + sum over k of a[row][k] * panels[panel][k]. The sum begins at zero
// and is cut into pieces of k as k alone says (Pieces in isa/tile-inl.h), whatever the tile.
template <class Real>
struct Product {
  const Real* const* a;  // [rows]
  int64_t rows;
  Runs k;
  const void* panels;  // [panel][k][width] in the product's format
  int64_t panel_begin, panel_end;
  Real* const* c;    // [rows]
  int64_t c_panel;   // elements from one panel of c to the next
  int64_t columns;   // in all panels together: the last may be partly filled
  const Real* init;  // [panel][init_panel] or null: zero
  int64_t init_panel;
  bool accumulate;           // add to c instead of init
  int64_t c_offset = 0;      // of a row's first panel
  char* operands = nullptr;  // [rows] of WeightFormat::operand_bytes
};

// What Product does, in the same order, with the right-hand operand's rows where they lie: for an
// operand that few tiles of rows meet.
template <class Real>
struct InPlaceProduct {
  const Real* const* a;  // [rows], as in Product
  int64_t rows;
  Runs k;
  const Real* const* b;  // [k]
  int64_t panel_begin, panel_end;
  Real* const* c;   // [rows][columns]
  int64_t columns;  // of the operand
  bool accumulate;
};

// c[m][n] (+)= sum over k of a[k][m] * panels[k][n]: the gradient of a weight matrix.
template <class Real>
struct Outer {
  const Real* a;  // [K][a_stride]
  int64_t a_stride;
  int64_t rows;  // m
  int64_t K;
  const Real* panels;  // column panels
  int64_t panel_stride;
  int64_t panel_begin, panel_end;
  Real* const* c;  // [rows][columns]
  int64_t columns;
  bool accumulate;
};

// c[m] (+)= sum over k of a[k][m]
template <class Real>
struct SumRows {
  const Real* a;
  int64_t a_stride;
  int64_t rows;
  int64_t K;
  Real* c;
  bool accumulate;
};

// to[m][n] = from[m][n] less the mean of its column, of some columns side by side
template <class Real>
struct Centre {
  const Real* from;
  int64_t stride;  // from row to row, of both
  int64_t rows, columns;
  Real* to;
};

// to[i] = value where numbers[i] >= limit, else 0
template <class Real>
struct Mask {
  const int16_t* numbers;
  int64_t count;
  int16_t limit;
  Real value;
  Real* to;
};

// What a program's code works on beside the rows of a step.
template <class Real>
struct ProgramStep {
  Code whole;             // of the stage, for panels that are full,
  Code part;              // and for the last one, if it is not
  Code of_rows;           // goes before it
  const Real* constants;  // [constants][unit_width], a number for all units in each
  const Real* vectors;    // [vectors][H] of the direction
  const Extra* extras;    // [extras]
  const int* gate_of_slot;
  Real* registers;       // [registers][kBlockVectors vectors], the thread's own
  int product_number;    // which of the recurrent ones
  int64_t heads;         // blocks on the diagonal of its weights, 1: dense
  Real* shares;          // the products of some rows, the thread's own (see ProgramShares)
  Slots input, product;  // those of the stage's products; none: count 0
  bool reads_input;      // is this the stage that has those of the input's?
  int slots;
  int vector_count;
  int kept;  // quantities in a panel of a row's `saved`
  int temps;
  int64_t kept_panel;  // elements from one panel of a row's `saved` to the next
  int64_t panels;      // of a row
  int64_t w_ih_slot;   // bytes from the panels of one slot to those of the next
  int64_t w_hh_slot;
  int64_t w_hh_panel;    // and from one panel to the next, in bytes as well
  int64_t extras_width;  // elements from one extra's gradient to the next
};

// One row at one step, forward.
template <class Real>
struct ForwardRow {
  const Real* x;  // its input [I], or its projected input [panel][gates][unit_width] when the block
                  // was projected
  // States: the hidden one [H_out] before, [H] after; others [H rounded up to unit_width]
  const Real* before[kMostStates];
  Real* after[kMostStates];
  Real* saved;  // [panel][kept][unit_width], panels of a program `kept_panel` apart; null where
                // neither backward nor a later stage reads it
  Real* operands[kMostProducts];  // [H] what a product after the first multiplies
  // Of programs: per-step values, and sums over units [sum][panel]
  const Real* extras;
  Real* sums;
};

template <class Real>
struct ForwardStep {
  const ForwardRow<Real>* rows;
  int64_t count;
  int64_t H;
  int64_t K;         // of the stage's product
  int64_t I;         // 0: x is projected already
  int64_t x_panel;   // elements from one panel of projected input to the next
  const Real* bias;  // [panel][slots][unit_width]
  const void* w_ih;  // gate panels in the step's format
  const void* w_hh;  // those of the stage's product
  int64_t panel_begin, panel_end;
  bool descending;  // walk the panels backwards
  const ProgramStep<Real>* program;
  char*
      operands;   // [count] for the input and [count] for the state, of WeightFormat::operand_bytes
  Source source;  // of weights as torch keeps them
};

// One row at one step, backward.
template <class Real>
struct BackwardRow {
  const Real* saved;
  const Real* after[kMostStates];  // as in ForwardRow
  const Real* before[kMostStates];
  const Real* d_y;  // [H] gradient from above, or null
  // [H rounded up]: in, from the step after; out, for the step before: of the hidden state what
  // goes past the products
  Real* d_states[kMostStates];
  Real* d_pre;                            // [panel][slots][units that the panel has]
  const Real* d_operands[kMostProducts];  // [H rounded up] of what a later product multiplies
  // Of programs
  const Real* extras;
  Real* d_extras;   // [extra][H rounded up]
  Real* sums;       // [sum][panel]
  Real* temps;      // [panel][temps][unit_width]
  Real* d_vectors;  // [panel][vectors][unit_width]
};

template <class Real>
struct BackwardStep {
  const BackwardRow<Real>* rows;
  int64_t count;
  int64_t H;
  int64_t d_pre_panel;  // elements from one panel of d_pre to the next
  int64_t panel_begin, panel_end;
  const ProgramStep<Real>* program;
};

// A cell's constants, as the cells' headers state them, and its fused steps.
template <class Real>
struct CellKernels {
  int gates;    // blocks of rows of a weight matrix
  int slots;    // pre-activations of a unit
  Slots input;  // those that the input's product adds to
  const int* gate_of_slot;
  int states;
  int saved;  // quantities of a unit that forward leaves for backward
  int kept;   // and those that it leaves from stage to stage, where nothing is saved
  bool reads_previous_hidden;
  bool meets;  // do units depend on one another's states?
  int64_t unit_width;
  int tallest;                                    // rows of a forward tile
  bool by_slot;                                   // weights of each slot in panels of their own
  void (*forward_row)(const ForwardStep<Real>&);  // of one row, weights as torch keeps them
  void (*project)(const Product<Real>&);          // gate panels
  int products;
  Slots product[kMostProducts];
  Stages forward_stages, backward_stages;
  void (*forward)(const ForwardStep<Real>&);  // of any stage
  void (*backward)(const BackwardStep<Real>&);

  bool has_cell_state() const { return states > 1; }
};

// Weights that were packed once for many calls may lie in panels in fewer bytes than the numbers of
// the call have. A panel begins with `scale_bytes` for each of its columns; then come its weights,
// [k / k_group][column][k % k_group], zero beyond the last k.
template <class Real>
struct WeightFormat {
  int64_t bytes;  // of a weight; 0: there is no such format in this precision
  int64_t k_group;
  int64_t scale_bytes;
  int64_t row_bytes;  // of an element of a row that is rounded to be multiplied; 0: rows are not
  void (*pack)(const Real* panel, int64_t K, int64_t columns, char* to);  // panel: [K][columns]
  void (*product)(const Product<Real>&);                                  // column panels
  void (*program_forward)(const ForwardStep<Real>&);
  struct Steps {
    void (*project)(const Product<Real>&);  // gate panels
    void (*forward)(const ForwardStep<Real>&);
  };
  Steps cells[kCells];

  int64_t grouped(int64_t K) const { return (K + k_group - 1) / k_group * k_group; }
  int64_t panel_bytes(int64_t K, int64_t columns) const {
    return (grouped(K) * bytes + scale_bytes) * columns;
  }
  // Of a row that has been rounded: its scale and its elements
  int64_t operand_bytes(int64_t K) const {
    return row_bytes ? rounded_row_bytes(grouped(K), row_bytes) : 0;
  }
};

template <class Real>
struct Kernels {
  int64_t column_width;
  int tallest;  // rows of a tile on column panels
  void (*pack_gates)(const PackGates<Real>&);
  void (*pack_rows)(const PackRows<Real>&);
  void (*product)(const Product<Real>&);  // column panels
  void (*product_in_place)(const InPlaceProduct<Real>&);
  void (*outer)(const Outer<Real>&);
  void (*sum_rows)(const SumRows<Real>&);
  void (*centre)(const Centre<Real>&);
  void (*mask)(const Mask<Real>&);
  CellKernels<Real> cells[kCells];
  // What runs the code of programs, whose panels are as wide as column panels
  int64_t program_register;  // elements
  // Elements of the products of some rows with `slots` slots in all
  int64_t (*program_shares)(int slots);
  void (*program_forward)(const ForwardStep<Real>&);
  void (*program_forward_row)(const ForwardStep<Real>&);  // of one row, weights as torch keeps them
  void (*program_backward)(const BackwardStep<Real>&);
  WeightFormat<Real> formats[kFormats];  // the first: as calls pack for themselves
};

struct KernelTable {
  Kernels<float> f32;
  Kernels<double> f64;
};

}  // namespace fastrnn
