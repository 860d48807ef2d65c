// The CUDA path as Python sees it: the recurrence of one layer. Addresses are Python integers, 0
// where there is nothing; strides are in elements. Stubs: python/fastrnn/_cuda.pyi.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <tuple>
#include <vector>

#include "cells.h"
#include "device.h"
#include "layer.h"

namespace py = pybind11;

namespace fastrnn::cuda {
namespace {

using Address = uintptr_t;
using Addresses =
    std::tuple<Address, int64_t, int64_t>;  // with strides from step to step and row to row

template <class T>
Strided<T> strided(const Addresses& tensor) {
  const auto [address, step, row] = tensor;
  return {reinterpret_cast<T*>(address), step, row};
}

// A member that holds an address, as an attribute that is an integer
template <class Struct, class T>
void address(py::class_<Struct>& type, const char* name, T* Struct::* member) {
  type.def_property(
      name, [member](const Struct& of) { return reinterpret_cast<Address>(of.*member); },
      [member](Struct& of, Address value) { of.*member = reinterpret_cast<T*>(value); });
}

template <class Struct>
void tensor(py::class_<Struct>& type, const char* name, Strided<void> Struct::* member) {
  type.def_property(
      name,
      [member](const Struct& of) {
        const Strided<void>& value = of.*member;
        return Addresses(reinterpret_cast<Address>(value.base), value.step, value.row);
      },
      [member](Struct& of, const Addresses& value) { of.*member = strided<void>(value); });
}

void bind_directions(py::module_& m) {
  py::class_<Forward> forward(m, "Forward", py::module_local());
  forward.def(py::init<>());
  address(forward, "w_hh", &Forward::w_hh);
  address(forward, "b_ih", &Forward::b_ih);
  address(forward, "b_hh", &Forward::b_hh);
  address(forward, "w_hr", &Forward::w_hr);
  address(forward, "h", &Forward::h);
  address(forward, "c", &Forward::c);
  tensor(forward, "gates", &Forward::gates);
  tensor(forward, "extra", &Forward::extra);
  tensor(forward, "cell", &Forward::cell);
  tensor(forward, "raw", &Forward::raw);
  tensor(forward, "y", &Forward::y);

  py::class_<Backward> backward(m, "Backward", py::module_local());
  backward.def(py::init<>());
  address(backward, "w_hh", &Backward::w_hh);
  address(backward, "w_hr", &Backward::w_hr);
  address(backward, "h0", &Backward::h0);
  address(backward, "c0", &Backward::c0);
  address(backward, "d_h", &Backward::d_h);
  address(backward, "d_c", &Backward::d_c);
  tensor(backward, "gates", &Backward::gates);
  tensor(backward, "extra", &Backward::extra);
  tensor(backward, "cell", &Backward::cell);
  tensor(backward, "y", &Backward::y);
  tensor(backward, "d_y", &Backward::d_y);
  tensor(backward, "d_cell", &Backward::d_cell);
  tensor(backward, "d_pre", &Backward::d_pre);
  tensor(backward, "d_projected", &Backward::d_projected);
  tensor(backward, "h_prev", &Backward::h_prev);
}

// What the tensors of a cell look like
struct CellLayout {
  int gates;
  int slots;
  int input_slot;
  int hidden_slot;
  std::vector<int> gate_of_slot;
};

template <class C>
CellLayout layout_of() {
  return {C::kGates, C::kSlots, C::kInputSlot, C::kHiddenSlot,
          std::vector<int>(C::kGateOfSlot, C::kGateOfSlot + C::kSlots)};
}

CellLayout cell_layout(Cell cell) {
  switch (cell) {
    case Cell::kLstm:
      return layout_of<Lstm>();
    case Cell::kGru:
      return layout_of<Gru>();
    case Cell::kRnnTanh:
    case Cell::kRnnRelu:
      return layout_of<Rnn<Tanh>>();
    default:
      throw py::value_error("this cell has no CUDA kernels");
  }
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
                       const Addresses& resets) {
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
  m.attr("architectures") = FASTRNN_CUDA_ARCHITECTURES;
  m.attr("compiler") = FASTRNN_CUDA_COMPILER;
}

}  // namespace fastrnn::cuda
