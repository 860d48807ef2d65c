// The gradients of a call that has taken the short way (see direct.h).
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <utility>
#include <vector>

#include "python/torch/saved_call.h"
#include "stack.h"

namespace fastrnn::cuda {

// What forward keeps is one tensor of sums, of so many elements.
int64_t kept_elements(const Stack& stack, Element element, int64_t rows);

// As fastrnn::Recorded is for the CPU (csrc/python/torch/recorded.h)
class Recorded : public SavedCall {
 public:
  Recorded(std::shared_ptr<const Stack> stack, const PlainCall& call, std::vector<Origin> origins)
      : SavedCall(call, std::move(origins)), stack_(std::move(stack)) {}

  pybind11::object backward(const pybind11::tuple& saved, const pybind11::tuple& d_outputs,
                            const pybind11::sequence& needed) const;

  int element() const { return static_cast<int>(memory.element); }

 private:
  class BackwardPass;
  std::shared_ptr<const Stack> stack_;
};

}  // namespace fastrnn::cuda
