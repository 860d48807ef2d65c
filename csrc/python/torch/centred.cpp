#include "centred.h"

#include <vector>

#include "engine/forward/centre.h"
#include "engine/kernels/dispatch.h"

namespace py = pybind11;

namespace fastrnn {

py::object centred(const Tensors& tensors, const py::sequence& matrices, int64_t groups,
                   int threads) {
  std::vector<CentredMatrix> all;
  py::list results;
  for (const py::handle& own : matrices) {
    dlpack::Tensor tensor;
    Memory memory;
    if (!tensors.read(own, tensor) || !read_element(tensor, memory.element) || tensor.ndim != 2 ||
        memory.element > Element::kFloat64 || !is_contiguous(tensor) || tensor.shape[0] == 0 ||
        tensor.shape[0] % groups)
      return py::none();
    const int64_t rows = tensor.shape[0], columns = tensor.shape[1];
    Address to = 0;
    results.append(tensors.new_empty(memory, {rows, columns}, to));
    if (!to) return py::none();
    all.push_back({static_cast<DType>(memory.element), rows, columns,
                   reinterpret_cast<const void*>(address_of(tensor)), reinterpret_cast<void*>(to)});
  }
  {
    const py::gil_scoped_release others_may_run;
    centre(all, groups, threads, active_kernels());
  }
  return results;  // counted as one more, for which the lock has to be held
}

}  // namespace fastrnn
