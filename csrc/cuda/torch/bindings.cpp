#include "bindings.h"

#include <pybind11/stl.h>

#include <array>
#include <memory>
#include <utility>
#include <vector>

#include "direct.h"
#include "recorded.h"

namespace py = pybind11;

namespace fastrnn::cuda {

void bind_direct(py::module_& m) {
  py::class_<Tensors>(m, "Tensors", py::module_local())
      .def(py::init<const py::capsule&, py::tuple, py::function, py::tuple, int32_t>());
  py::class_<Operations>(m, "Operations", py::module_local())
      .def(py::init<const py::module_&, py::function, py::function, py::function, py::tuple,
                    py::function>());
  py::class_<Pieces>(m, "Pieces", py::module_local())
      .def(py::init([](std::vector<int64_t> gates, std::vector<int64_t> extra,
                       std::vector<int64_t> cell, std::vector<int64_t> raw,
                       std::vector<int64_t> outputs, int64_t row_bytes, int64_t multiple) {
        return Pieces{std::move(gates),   std::move(extra), std::move(cell), std::move(raw),
                      std::move(outputs), row_bytes,        multiple};
      }));
  py::class_<Stack, std::shared_ptr<Stack>>(m, "Stack", py::module_local())
      .def(py::init([](Cell cell, int64_t I, int64_t H, int64_t P, int64_t layers,
                       int64_t directions, bool bias, bool reverse, const Operations& torch,
                       const std::array<Pieces, 4>& pieces) {
        const Shape shape = {cell, DType::kFloat32, 0,          0,    I,      H,
                             P,    layers,          directions, bias, reverse};
        return Stack{shape, torch, pieces, cell_layout(cell)};
      }));
  bind_saved_call(py::class_<Recorded>(m, "Recorded", py::module_local()))
      .def_property_readonly("element", &Recorded::element);
  py::class_<Direct>(m, "Direct", py::module_local())
      .def(py::init([](std::shared_ptr<Stack> stack, bool one_step, const Tensors& tensors,
                       py::function record) {
        return Direct(std::move(stack), one_step, tensors, std::move(record));
      }))
      .def("call", &Direct::call);
}

}  // namespace fastrnn::cuda
