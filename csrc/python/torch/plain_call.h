// A plain call as the short ways find it: dense tensors in torch's own layout, each of which is
// looked at before its address is taken.
#pragma once

#include <pybind11/pybind11.h>

#include <numeric>
#include <vector>

#include "engine/call/batch.h"
#include "python/calls.h"
#include "tensors.h"

namespace fastrnn {

// How x, y and the states of a call are laid out.
struct Form {
  bool one_step = false;     // x is [B, I], and states have no dimension of layers
  bool batch_first = false;  // x is [B, T, I]
  int64_t packed_rows = 0;   // x is [rows, I], those of a packed batch; 0: it is another

  Sizes sequence(const Shape& shape, int64_t features) const;  // of x, y and their gradients
  Sizes state(const Shape& shape, int64_t features) const;     // of h and c
  Strided strided(const dlpack::Tensor& sequence) const;
  Strided contiguous(const Shape& shape, int64_t features, Address sequence) const;
};

// What a call asks of a cell, of torch's or a program; its constants are the same for every dtype.
struct CellFacts {
  int64_t gates;
  bool has_cell_state;  // or others beside the hidden one, which are one tensor
};

// Calls visit(sizes) with the sizes of each weight in torch's order, as long as that returns true.
template <class Visit>
bool for_each_weight(const Shape& shape, int64_t gates, Visit visit) {
  const Present has(shape);
  const int64_t rows = gates * shape.H;
  const int64_t vectors = shape.program ? shape.program->vectors : 0;
  const Sizes w_hh = shape.heads > 1 ? Sizes{shape.heads, rows / shape.heads, shape.of_head()}
                                     : Sizes{rows, shape.out()};
  for (int64_t i = 0; i < shape.layers * shape.directions; ++i) {
    if (!visit(Sizes{rows, shape.in(i / shape.directions)})) return false;
    if (has.w_hh && !visit(w_hh)) return false;
    if (has.b_ih && !visit(Sizes{rows})) return false;
    if (has.b_hh && !visit(Sizes{rows})) return false;
    if (has.w_hr && !visit(Sizes{shape.P, shape.H})) return false;
    if (has.w_ch && !visit(Sizes{vectors * shape.H})) return false;
  }
  return true;
}

// What makes a batch ragged, as Python has it; None for what is not there. resets: [T, B], which
// nobody else writes to.
struct Ragged {
  pybind11::handle batch_sizes, sorted_indices, lengths, resets;
};

// The same as the engine takes it (Batch), and the lengths by batch entry; empty or null for what
// is not there
struct Raggedness {
  std::vector<int64_t> batch_sizes, order, lengths;
  pybind11::object resets = pybind11::none();
  const bool* flags = nullptr;  // of resets

  Batch batch(const Shape& shape, bool packed) const {
    return Batch(shape.T, shape.B, batch_sizes, order, packed, flags);
  }

  // Of a dropout mask: by step and entry, or by row where not all entries are at all steps
  Sizes mask(const Shape& shape) const {
    const int64_t width = shape.directions * shape.out();
    if (batch_sizes.empty()) return {shape.T, shape.B, width};
    return {std::accumulate(batch_sizes.begin(), batch_sizes.end(), int64_t{0}), width};
  }
};

// Where forward has found a tensor, and of a parameter the memory itself: its module may exchange
// it for other memory at any time.
struct Origin {
  PyObject* tensor = nullptr;  // compared, never followed
  Address address = 0;
  pybind11::object storage;
};

// The functions that say `bool` return false where a tensor is not as it has to be.
struct PlainCall {
  PlainCall(const Tensors& tensors, const Shape& shape, CellFacts cell, Form form,
            bool grad_enabled)
      : tensors(tensors), cell(cell), form(form), shape(shape), grad_enabled(grad_enabled) {}

  bool read_packed(pybind11::handle batch_sizes, pybind11::handle sorted_indices);  // before x
  bool read_input(pybind11::handle x);  // which says what memory the others have to have
  bool read_lengths(pybind11::handle lengths);
  bool read_resets(pybind11::handle resets);
  bool read_states(pybind11::handle hx);
  bool read_weights(const pybind11::sequence& weights);  // matrices of at.source
  // time_first: y lies as [T, B, H], which with batch_first is what torch's layers return a view
  // of.
  bool make_outputs(bool time_first);
  // False if one of them is no plain tensor of these sizes
  bool read_masks(const pybind11::sequence& masks);
  pybind11::tuple outputs() const;
  std::vector<Origin> origins(const pybind11::sequence& weights) const;

  const Tensors& tensors;
  CellFacts cell;
  Form form;
  Shape shape;  // with T and B once x is read
  bool grad_enabled;

  Raggedness ragged;
  Memory memory;
  bool is_contiguous = false;   // x
  bool differentiable = false;  // whether a tensor that has been read wants a gradient
  pybind11::object x = pybind11::none(), h = pybind11::none(), c = pybind11::none();
  pybind11::object y, h_n, c_n;
  ForwardAddresses at;  // of what is read and of the outputs

 private:
  bool read(pybind11::handle tensor, Memory own, Sizes sizes, Address& address);
};

// What torch.nn's layer or cell would return of these outputs
pybind11::object as_returned(const pybind11::tuple& outputs, bool one_step, bool has_cell_state);

}  // namespace fastrnn
