// The gradients of a call that has taken the short way (see direct.h).
#pragma once

#include <pybind11/pybind11.h>

#include <utility>
#include <vector>

#include "saved_call.h"

namespace fastrnn {

// What forward keeps for backward is a tensor like the others, of so many elements.
int64_t kept_elements(const Plan& plan);

// What backward has to know of a call. The tensors of the call are kept by torch's autograd, which
// watches them.
class Recorded : public SavedCall {
 public:
  Recorded(Plan plan, const PlainCall& call, std::vector<Origin> origins)
      : SavedCall(call, std::move(origins)), plan(std::move(plan)) {}

  // saved and d_outputs: as `SavedCall` reads them. needed: for x, h_0, c_0 and the weights,
  // whether its gradient is wanted. The gradients, None for one that is not; or None if a tensor is
  // not as it has to be: the long way then.
  pybind11::object backward(const pybind11::tuple& saved, const pybind11::tuple& d_outputs,
                            const pybind11::sequence& needed) const;

  Plan plan;

 private:
  bool make_gradients(const pybind11::sequence& needed, Pullback& call) const;
};

}  // namespace fastrnn
