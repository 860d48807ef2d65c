// What all calls of a stack of layers have in common, forward and backward.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "cuda/cell_layout.h"
#include "cuda/layer.h"
#include "operations.h"
#include "python/torch/plain_call.h"

namespace fastrnn::cuda {

// Where what forward keeps lies in one block: for each direction of each layer, and `outputs` for
// each layer, the bytes that a row takes of all pieces before. Empty where a cell has none.
struct Pieces {
  std::vector<int64_t> gates, extra, cell, raw, outputs;
  int64_t row_bytes = 0;
  int64_t multiple = 1;  // of which the rows are that a piece has room for

  int64_t room(int64_t rows) const { return (rows + multiple - 1) / multiple * multiple; }
};

// A block of pieces at an address; without one there are none.
struct Kept {
  Address address = 0;
  int64_t room = 0;

  Address at(const std::vector<int64_t>& offsets, int64_t index) const {
    return address && !offsets.empty() ? address + room * offsets[index] : 0;
  }
};

struct Stack {
  Shape shape;  // without T, B and dtype
  Operations torch;
  std::array<Pieces, 4> pieces;  // by element
  CellLayout layout;

  int64_t gate_columns() const { return layout.gates * shape.H; }
  LayerShape of_layer() const { return {shape.cell, shape.H, shape.P, shape.reverse}; }
  const Pieces& pieces_of(Element element) const { return pieces[static_cast<size_t>(element)]; }
};

// What sums and cell states are kept in
inline Element sums_of(Element element) {
  return element == Element::kFloat64 ? Element::kFloat64 : Element::kFloat32;
}

// The weights of a direction by name: tensors, or their gradients
struct DirectionWeights {
  DirectionWeights(const Shape& shape, int64_t index) {
    const Present has(shape);
    w_ih = static_cast<size_t>(index * has.count());
    size_t next = w_ih + 1;
    w_hh = next++;
    if (has.b_ih) b_ih = next++;
    if (has.b_hh) b_hh = next++;
    if (has.w_hr) w_hr = next++;
  }
  // Places in the flat order; 0 for one that there is not
  size_t w_ih, w_hh, b_ih = 0, b_hh = 0, w_hr = 0;
};

// Of a tensor of all steps, in the terms of the kernels
inline Strided<void> steps_at(const fastrnn::Strided& tensor) {
  const auto [address, step, row] = tensor;
  return {at<void>(address), step, row};
}

// Rows of `width` numbers one after another, laid out as the input is; none at address 0
inline Strided<void> steps_at(const Form& form, const Shape& shape, int64_t width,
                              Address address) {
  return address ? steps_at(form.contiguous(shape, width, address)) : Strided<void>{};
}

}  // namespace fastrnn::cuda
