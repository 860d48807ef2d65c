// The gradients of a call that has taken the short way (see direct.h).
#pragma once

#include <pybind11/pybind11.h>

#include <utility>

#include "calls.h"
#include "tensors.h"

namespace fastrnn {

// How x, y and the states of a call are laid out.
struct Form {
  bool one_step = false;     // x is [B, I], and states have no dimension of layers
  bool batch_first = false;  // x is [B, T, I]

  Sizes sequence(const Shape& shape, int64_t features) const;  // of x, y and their gradients
  Sizes state(const Shape& shape, int64_t features) const;     // of h and c
  Strided strided(const dlpack::Tensor& sequence) const;
  Strided contiguous(const Shape& shape, int64_t features, Address sequence) const;
};

// Calls visit(sizes) with the sizes of each weight in torch's order, as long as that returns true.
template <class Visit>
bool for_each_weight(const Shape& shape, int64_t gates, Visit visit) {
  const int64_t rows = gates * shape.H, peepholes = shape.variant.peepholes;
  for (int64_t i = 0; i < shape.layers * shape.directions; ++i) {
    if (!visit(Sizes{rows, shape.in(i / shape.directions)})) return false;
    if (!visit(Sizes{rows, shape.out()})) return false;
    if (shape.bias && !(visit(Sizes{rows}) && visit(Sizes{rows}))) return false;
    if (shape.P > 0 && !visit(Sizes{shape.P, shape.H})) return false;
    if (peepholes && !visit(Sizes{peepholes * shape.H})) return false;
  }
  return true;
}

// What forward keeps for backward is a tensor like the others, of so many elements.
int64_t kept_elements(const Plan& plan);

// What backward has to know of a call. The tensors of the call are kept by torch's autograd, which
// watches them.
class Recorded {
 public:
  Recorded(Plan plan, Form form, Tensors tensors)
      : plan(std::move(plan)), form(form), tensors_(std::move(tensors)) {}

  // saved: x, h_0, c_0, the weights, and what forward kept. d_outputs: of what the call returned.
  // needed: for each of `saved` but the last, whether its gradient is wanted. The gradients, None
  // for one that is not; or None if a tensor is not plain and the long way has to be taken.
  pybind11::object backward(const pybind11::tuple& saved, const pybind11::tuple& d_outputs,
                            const pybind11::sequence& needed) const;

  Plan plan;
  Form form;

 private:
  struct Incoming;
  struct Outgoing;
  bool read_saved(const pybind11::tuple& saved, Incoming& in) const;
  bool read_gradients(const pybind11::tuple& d_outputs, Incoming& in) const;
  bool make_gradients(const pybind11::sequence& needed, Outgoing& out) const;
  const CellKernels<float>& cell() const;  // its constants are the same for every dtype

  Tensors tensors_;
};

}  // namespace fastrnn
