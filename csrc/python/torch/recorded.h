// The gradients of a call that has taken the short way (see direct.h).
#pragma once

#include <pybind11/pybind11.h>

#include <utility>
#include <vector>

#include "python/calls.h"
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

// What a call asks of a cell, of torch's or a program; its constants are the same for every dtype.
struct CellFacts {
  CellFacts(const Shape& shape, const KernelTable& kernels);
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

// What forward keeps for backward is a tensor like the others, of so many elements.
int64_t kept_elements(const Plan& plan);

// What backward has to know of a call. The tensors of the call are kept by torch's autograd, which
// watches them.
class Recorded {
 public:
  // Where forward has found a tensor, and of a parameter the memory itself: its module may exchange
  // it for other memory at any time.
  struct Origin {
    PyObject* tensor = nullptr;  // compared, never followed
    Address address = 0;
    pybind11::object storage;
  };

  // origins: of x, h_0, c_0 and the weights
  Recorded(Plan plan, Form form, Tensors tensors, std::vector<Origin> origins)
      : plan(std::move(plan)),
        form(form),
        tensors_(std::move(tensors)),
        origins_(std::move(origins)) {}

  // saved: x, h_0, c_0, the weights, and what forward kept; None for what is not read. d_outputs:
  // of what the call returned. needed: for each of `saved` but the last, whether its gradient is
  // wanted. The gradients, None for one that is not; or None if a tensor is not plain, or not where
  // forward has found it: the long way then.
  pybind11::object backward(const pybind11::tuple& saved, const pybind11::tuple& d_outputs,
                            const pybind11::sequence& needed) const;

  pybind11::tuple sizes() const;   // of x
  pybind11::list origins() const;  // (tensor, address, storage or None, None), None for none
  void forget_origins() { origins_.clear(); }

  Plan plan;
  Form form;

 private:
  struct Pullback;
  bool is_where_it_was(size_t place, pybind11::handle tensor, Address address) const;
  bool read_saved(const pybind11::tuple& saved, Pullback& call) const;
  bool read_gradients(const pybind11::tuple& d_outputs, Pullback& call) const;
  bool make_gradients(const pybind11::sequence& needed, Pullback& call) const;
  CellFacts cell() const { return {plan.shape, *plan.kernels}; }

  Tensors tensors_;
  std::vector<Origin> origins_;
};

}  // namespace fastrnn
