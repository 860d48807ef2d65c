// The short way of plain calls: from torch's tensors straight to the engine.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>

#include "engine/call/api.h"
#include "recorded.h"
#include "tensors.h"

namespace fastrnn {

// A small layer spends most of a call on its way through Python. Here the tensors are read, checked
// and allocated in one go. This serves calls on dense tensors in torch's own layout; whatever is
// unusual or wrong is left to the long way, which can do everything and explains every mistake.
class Direct {
 public:
  // shape: without T, B and dtype. one_step: x is [B, I], and states have no dimension of layers.
  // record(recorded, outputs, x, h_0, c_0, *weights, *masks, kept) makes the outputs of a call that
  // will be differentiated part of torch's graph, and returns them. keep(elements, dtype) makes the
  // tensor of what forward keeps, if that is large. draw(rows, x): the dropout masks between the
  // layers, for rows by step and entry or in a row; None: there are none. program: the shape's, if
  // the cell is one. packed: the weights, of calls that bring none and have no gradients; or null.
  // format: of the panels of other calls, which are float32 if it is not the plain one.
  Direct(const Shape& shape, std::shared_ptr<const Program> program, bool one_step, Tensors tensors,
         pybind11::function record, pybind11::function keep, pybind11::object draw,
         std::shared_ptr<const Packed> packed, Format format);

  // What torch.nn's layer or cell would return, or None if the call has to take the long way.
  // bfloat16: the weights' matrices are, all else is float32, and none has a gradient. ragged: of a
  // packed batch x has the data, and so has what is returned.
  pybind11::object call(pybind11::handle x, pybind11::handle hx, const pybind11::sequence& weights,
                        bool batch_first, bool grad_enabled, int threads, bool bfloat16,
                        const Ragged& ragged) const;

 private:
  bool read_batch(PlainCall& call, pybind11::handle x, const Ragged& ragged) const;
  bool has_weights(PlainCall& call, const pybind11::sequence& weights) const;
  pybind11::tuple new_masks(PlainCall& call) const;
  pybind11::object new_kept(const Plan& plan, PlainCall& call) const;
  CellFacts cell() const;

  Shape shape_;
  std::shared_ptr<const Program> program_;
  bool one_step_;
  Tensors tensors_;
  pybind11::function record_, keep_;
  pybind11::object draw_;
  std::shared_ptr<const Packed> packed_;
  Format format_;
};

}  // namespace fastrnn
