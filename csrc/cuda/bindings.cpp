// The CUDA path as Python sees it: the recurrence of one layer. Addresses are Python integers, 0
// where there is nothing; strides are in elements. Stubs: python/fastrnn/_cuda.pyi.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <tuple>
#include <vector>

#include "cell_layout.h"
#include "device.h"
#include "layer.h"
#include "torch/bindings.h"

namespace py = pybind11;

namespace fastrnn::cuda {
namespace {

using Address = uintptr_t;
using AddressOfSteps =
    std::tuple<Address, int64_t, int64_t>;  // with strides from step to step and row to row

template <class T>
Strided<T> strided(const AddressOfSteps& tensor) {
  const auto [address, step, row] = tensor;
  return {reinterpret_cast<T*>(address), step, row};
}

template <class T = void>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

// Positional, in the order of the structs: a call makes one for each direction of each layer.
void bind_directions(py::module_& m) {
  using A = Address;
  using Steps = const AddressOfSteps&;
  py::class_<Forward>(m, "Forward", py::module_local())
      .def(py::init([](A w_hh, A b_ih, A b_hh, A w_hr, A h0, A h, A h_n, A c0, A c, Steps gates,
                       Steps extra, Steps cell, Steps raw, Steps y) {
        return Forward{at(w_hh),
                       at(b_ih),
                       at(b_hh),
                       at(w_hr),
                       at(h0),
                       at(h),
                       at(h_n),
                       at(c0),
                       at(c),
                       strided<void>(gates),
                       strided<void>(extra),
                       strided<void>(cell),
                       strided<void>(raw),
                       strided<void>(y)};
      }));
  py::class_<Backward>(m, "Backward", py::module_local())
      .def(py::init([](A w_hh, A w_hr, A h0, A c0, A d_h_n, A d_h, A d_c_n, A d_c, Steps gates,
                       Steps extra, Steps cell, Steps y, Steps d_y, Steps d_cell, Steps d_pre,
                       Steps d_projected, Steps h_prev) {
        return Backward{at(w_hh),
                        at(w_hr),
                        at(h0),
                        at(c0),
                        at(d_h_n),
                        at(d_h),
                        at(d_c_n),
                        at(d_c),
                        strided<void>(gates),
                        strided<void>(extra),
                        strided<void>(cell),
                        strided<void>(y),
                        strided<void>(d_y),
                        strided<void>(d_cell),
                        strided<void>(d_pre),
                        strided<void>(d_projected),
                        strided<void>(h_prev)};
      }));
}

// A layer of as many directions as are given
template <class Layer, class Direction>
Layer layer_of(const LayerShape& shape, const std::vector<Direction>& directions) {
  if (directions.empty() || directions.size() > 2)
    throw py::value_error("expected one direction or two, got " +
                          std::to_string(directions.size()));
  Layer layer;
  layer.shape = shape;
  layer.directions = static_cast<int>(directions.size());
  for (size_t d = 0; d < directions.size(); ++d) layer.of[d] = directions[d];
  return layer;
}

}  // namespace

// Types are the module's own: _core has a Cell as well.
PYBIND11_MODULE(FASTRNN_CUDA_MODULE, m) {
  py::enum_<Cell>(m, "Cell", py::module_local())
      .value("lstm", Cell::kLstm)
      .value("gru", Cell::kGru)
      .value("rnn_tanh", Cell::kRnnTanh)
      .value("rnn_relu", Cell::kRnnRelu);
  py::enum_<Precision>(m, "Precision", py::module_local())
      .value("float32", Precision::kFloat32)
      .value("tf32", Precision::kTf32)
      .value("float64", Precision::kFloat64)
      .value("float16", Precision::kFloat16)
      .value("bfloat16", Precision::kBFloat16);

  py::class_<LayerShape>(m, "LayerShape", py::module_local())
      .def(py::init([](Cell cell, int64_t H, int64_t P, bool reverse) {
        return LayerShape{cell, H, P, reverse};
      }));
  py::class_<Stream>(m, "Stream", py::module_local()).def(py::init([](int device, Address handle) {
    return Stream{device, reinterpret_cast<void*>(handle)};
  }));
  py::class_<Sequence>(m, "Sequence", py::module_local())
      .def(py::init([](int64_t T, int64_t B, std::vector<int64_t> batch_sizes, Address lengths,
                       const AddressOfSteps& resets) {
        return Sequence(T, B, std::move(batch_sizes), reinterpret_cast<const int64_t*>(lengths),
                        strided<const bool>(resets));
      }));
  py::class_<CellLayout>(m, "CellLayout", py::module_local())
      .def_readonly("gates", &CellLayout::gates)
      .def_readonly("slots", &CellLayout::slots)
      .def_readonly("input_slot", &CellLayout::input_slot)
      .def_readonly("hidden_slot", &CellLayout::hidden_slot)
      .def_readonly("gate_of_slot", &CellLayout::gate_of_slot);
  bind_directions(m);
  bind_direct(m);

  m.def("cell_layout", &cell_layout);
  m.def("versions", [] {
    const Versions found = versions();
    return std::make_tuple(found.driver, found.runtime);
  });
  m.def("load_error", &load_error);
  m.def("forward", [](Precision precision, const Sequence& sequence, const LayerShape& shape,
                      bool save, const std::vector<Forward>& directions, Stream stream) {
    ForwardLayer layer = layer_of<ForwardLayer>(shape, directions);
    layer.save = save;
    py::gil_scoped_release release;
    run(precision, sequence, layer, stream);
  });
  m.def("backward", [](Precision precision, const Sequence& sequence, const LayerShape& shape,
                       bool initial, const std::vector<Backward>& directions, Stream stream) {
    BackwardLayer layer = layer_of<BackwardLayer>(shape, directions);
    layer.initial = initial;
    py::gil_scoped_release release;
    run(precision, sequence, layer, stream);
  });
  m.attr("device_type") = kDeviceType;
  m.attr("architectures") = FASTRNN_CUDA_ARCHITECTURES;
  m.attr("compiler") = FASTRNN_CUDA_COMPILER;
}

}  // namespace fastrnn::cuda
