// The short way of plain calls on a GPU: from torch's tensors to the kernels in one crossing.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>

#include "stack.h"

namespace fastrnn::cuda {

// As fastrnn::Direct is for the CPU (csrc/python/torch/direct.h). The passes do what those of
// python/fastrnn/_engine/cuda do, in the same order of additions, for batches whose rows take part
// in all steps; whatever is unusual or wrong is left to these.
class Direct {
 public:
  // record: as for the CPU's
  Direct(std::shared_ptr<const Stack> stack, bool one_step, Tensors tensors,
         pybind11::function record);

  // What torch.nn's layer or cell would return, or None if the call has to take the long way.
  // room: bytes that the input's share of a direction may take in inference.
  pybind11::object call(pybind11::handle x, pybind11::handle hx, const pybind11::sequence& weights,
                        bool batch_first, bool grad_enabled, int64_t room) const;

 private:
  bool fits(const PlainCall& call, int64_t room) const;

  std::shared_ptr<const Stack> stack_;
  bool one_step_;
  Tensors tensors_;
  pybind11::function record_;
};

}  // namespace fastrnn::cuda
