// The short way of plain calls: from torch's tensors straight to the engine.
#pragma once

#include <pybind11/pybind11.h>

#include <initializer_list>

#include "api.h"
#include "calls.h"
#include "dlpack.h"

namespace fastrnn {

// A small layer spends most of a call on its way through Python. Here the tensors are read through
// DLPack's C interface, checked and allocated in one go. This serves calls on dense tensors in
// torch's own layout that need no gradient; whatever is unusual or wrong is left to the long way,
// which can do everything and explains every mistake.
class Direct {
 public:
  // shape: without T, B and dtype. one_step: x is [B, I], and states have no dimension of layers.
  // plain_types: the classes whose instances hide nothing from a reader of their memory; subclasses
  // do not count. ImportError if the interface is another one.
  Direct(const Shape& shape, bool one_step, const pybind11::capsule& exchange_api,
         pybind11::tuple plain_types);

  // What torch.nn's layer or cell would return, or None if the call has to take the long way.
  pybind11::object call(pybind11::handle x, pybind11::handle hx, const pybind11::sequence& weights,
                        bool batch_first, bool grad_enabled, int threads) const;

 private:
  using Sizes = std::initializer_list<int64_t>;

  bool read(pybind11::handle object, bool grad_enabled, dlpack::Tensor& tensor) const;
  bool read_like(const dlpack::Tensor& like, pybind11::handle object, bool grad_enabled,
                 Sizes sizes, Address& address) const;
  bool read_weights(const dlpack::Tensor& like, const pybind11::sequence& weights,
                    bool grad_enabled, Addresses& flat) const;
  const CellKernels<float>& cell() const;  // its constants are the same for every dtype
  pybind11::object new_empty(pybind11::handle like, Sizes sizes, Address& address) const;

  Shape shape_;
  bool one_step_;
  const dlpack::ExchangeApi* api_;
  pybind11::tuple plain_types_;
};

}  // namespace fastrnn
