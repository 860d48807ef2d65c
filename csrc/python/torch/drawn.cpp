#include "drawn.h"

#include <functional>
#include <numeric>

#include "engine/forward/mask.h"
#include "engine/kernels/dispatch.h"

namespace py = pybind11;

namespace fastrnn {
namespace {

int64_t size_of(const dlpack::Tensor& tensor) {
  return std::accumulate(tensor.shape, tensor.shape + tensor.ndim, int64_t{1},
                         std::multiplies<int64_t>());
}

}  // namespace

bool drawn(const Tensors& tensors, py::handle words, py::handle to, int limit, double value,
           int threads) {
  dlpack::Tensor from, mask;
  Element element;
  if (!tensors.read(words, from) || !tensors.read(to, mask) || !read_element(mask, element))
    return false;
  const bool of_words = from.dtype.code == dlpack::kInt && from.dtype.bits == 64;
  const int64_t count = size_of(mask);
  if (!of_words || element > Element::kFloat64 || !is_contiguous(from) || !is_contiguous(mask) ||
      limit < INT16_MIN || limit > INT16_MAX || 4 * size_of(from) < count)
    return false;
  const py::gil_scoped_release others_may_run;
  draw({static_cast<DType>(element), count, reinterpret_cast<const int16_t*>(address_of(from)),
        limit, value, reinterpret_cast<void*>(address_of(mask))},
       threads, active_kernels());
  return true;
}

}  // namespace fastrnn
