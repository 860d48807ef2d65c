// torch's operations around the recurrences of a pass, called as Python calls them: whoever sees
// those sees these, and the module is linked to nothing of torch's.
#pragma once

#include <pybind11/pybind11.h>

#include "cuda/layer.h"
#include "python/torch/tensors.h"

namespace fastrnn::cuda {

class Operations {
 public:
  // torch: the module. multiply(a, b, out): out = a b, in the precision of `out` where it has
  // another one than the operands. stream_of(device): the current stream's handle. uses_tf32():
  // whether recurrences may round float32. dtypes: torch's for elements, in their order.
  // set_grad_enabled(mode): whether operations are recorded.
  Operations(const pybind11::module_& torch, pybind11::function multiply,
             pybind11::function stream_of, pybind11::function uses_tf32, pybind11::tuple dtypes,
             pybind11::function set_grad_enabled);

  // Views
  pybind11::object transposed(pybind11::handle matrix) const;
  pybind11::object as_rows(pybind11::handle sequence, int64_t width) const;
  pybind11::object part(pybind11::handle tensor, int dim, int64_t first, int64_t count) const;
  // Of a block of memory; offset: in numbers of `element`
  pybind11::object piece(pybind11::handle block, Element of_block, Element element, int64_t rows,
                         int64_t width, int64_t offset) const;

  pybind11::object contiguous(pybind11::handle tensor) const;
  pybind11::object copied(pybind11::handle tensor) const;
  // What is in place i comes to place i + by, what leaves at the end comes back at the beginning.
  pybind11::object rolled(pybind11::handle tensor, int64_t by) const;
  pybind11::object with(pybind11::handle tensor, Element element) const;
  void copy(pybind11::handle to, pybind11::handle from) const;

  pybind11::object product(pybind11::handle a, pybind11::handle b) const;
  void product(pybind11::handle a, pybind11::handle b, pybind11::handle out) const;
  void add_product(pybind11::handle sum, pybind11::handle a, pybind11::handle b) const;
  void multiply(pybind11::handle a, pybind11::handle b, pybind11::handle out) const;
  pybind11::object sum_of_rows(pybind11::handle matrix) const;

  Precision precision(Element element) const;
  Stream stream(int device) const;

 private:
  friend class WithoutGradients;
  pybind11::object transposed_, view_, narrow_, as_strided_, contiguous_, clone_, roll_, to_, copy_;
  pybind11::object mm_, addmm_, sum_;
  pybind11::function multiply_, stream_of_, uses_tf32_;
  pybind11::tuple dtypes_;
  pybind11::function set_grad_enabled_;
  pybind11::tuple out_;  // the name of an argument
};

// What torch computes while this lives is not recorded.
class WithoutGradients {
 public:
  WithoutGradients(const Operations& torch, bool recorded);
  ~WithoutGradients();
  WithoutGradients(const WithoutGradients&) = delete;
  WithoutGradients& operator=(const WithoutGradients&) = delete;

 private:
  const Operations& torch_;
  const bool recorded_;
};

}  // namespace fastrnn::cuda
