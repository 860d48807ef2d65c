#include "centred.h"

#include <vector>

#include "engine/kernels/dispatch.h"

namespace py = pybind11;

namespace fastrnn {
namespace {

struct Matrix {
  Element element;
  int64_t rows, columns;
  Address from, to;
};

template <class Real>
void centre_groups(const Kernels<Real>& kernels, const Matrix& matrix, int groups) {
  const int64_t rows = matrix.rows / groups;
  for (int64_t first = 0; first < matrix.rows; first += rows) {
    const int64_t at = first * matrix.columns;
    kernels.centre({reinterpret_cast<const Real*>(matrix.from) + at, rows, matrix.columns,
                    reinterpret_cast<Real*>(matrix.to) + at});
  }
}

}  // namespace

py::object centred(const Tensors& tensors, const py::sequence& matrices, int groups) {
  std::vector<Matrix> all;
  py::list results;
  for (const py::handle& own : matrices) {
    dlpack::Tensor tensor;
    Memory memory;
    if (!tensors.read(own, tensor) || !read_element(tensor, memory.element) || tensor.ndim != 2 ||
        memory.element > Element::kFloat64 || !is_contiguous(tensor) || tensor.shape[0] == 0 ||
        tensor.shape[0] % groups)
      return py::none();
    Matrix matrix = {memory.element, tensor.shape[0], tensor.shape[1], address_of(tensor), 0};
    results.append(tensors.new_empty(memory, {matrix.rows, matrix.columns}, matrix.to));
    if (!matrix.to) return py::none();
    all.push_back(matrix);
  }
  const py::gil_scoped_release others_may_run;
  const KernelTable& kernels = active_kernels();
  for (const Matrix& matrix : all) {
    if (matrix.element == Element::kFloat32) {
      centre_groups(kernels.f32, matrix, groups);
    } else {
      centre_groups(kernels.f64, matrix, groups);
    }
  }
  return results;
}

}  // namespace fastrnn
