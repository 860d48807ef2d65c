// What backward finds of a call that has taken a short way: the tensors that torch's autograd has
// kept and watched, each of which is looked at again.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <utility>
#include <vector>

#include "plain_call.h"

namespace fastrnn {

class SavedCall {
 public:
  // Of a call that has been made; origins: of x, h_0, c_0 and the weights
  SavedCall(const PlainCall& call, std::vector<Origin> origins)
      : shape(call.shape),
        form(call.form),
        ragged(call.ragged),
        masks(call.at.masks.size()),
        memory(call.memory),
        cell(call.cell),
        tensors(call.tensors),
        origins_(std::move(origins)) {}

  pybind11::tuple sizes() const;   // of x
  pybind11::list origins() const;  // (tensor, address, storage or None, None), None for none
  void forget_origins() { origins_.clear(); }

  Shape shape;
  Form form;
  Raggedness ragged;
  size_t masks;  // dropout masks, saved behind the weights

 protected:
  struct Pullback {
    explicit Pullback(size_t count) : gradients(count) {}
    std::vector<pybind11::object> alive;  // x, h_0, c_0, the weights, what forward kept, gradients
    pybind11::tuple gradients;
    BackwardAddresses at;
  };

  // saved: x, h_0, c_0, the weights, the dropout masks, and what forward kept, `kept` numbers of
  // `memory_of_kept`; None for what is not read. d_outputs: of what the call returned. False if one
  // is not plain, or not where forward has found it.
  bool read_saved(const pybind11::tuple& saved, Memory memory_of_kept, int64_t kept,
                  Pullback& call) const;
  bool read_gradients(const pybind11::tuple& d_outputs, Pullback& call) const;

  Memory memory;
  CellFacts cell;
  Tensors tensors;

 private:
  bool is_where_it_was(size_t place, pybind11::handle tensor, Address address) const;

  std::vector<Origin> origins_;
};

// What Python sees of a saved call, whichever module it belongs to
template <class Recorded>
pybind11::class_<Recorded> bind_saved_call(pybind11::class_<Recorded> bound) {
  return bound
      .def_property_readonly("batch_first",
                             [](const Recorded& recorded) { return recorded.form.batch_first; })
      .def_property_readonly("steps", [](const Recorded& recorded) { return recorded.shape.T; })
      .def_property_readonly("sizes", &Recorded::sizes)
      .def_property_readonly("origins", &Recorded::origins)
      .def_property_readonly(
          "ragged",
          [](const Recorded& recorded) {
            const Raggedness& own = recorded.ragged;
            const bool packed = recorded.form.packed_rows > 0;
            const pybind11::object none = pybind11::none();
            const auto given = [&](bool there, const std::vector<int64_t>& numbers) {
              return there && !numbers.empty() ? pybind11::cast(numbers) : none;
            };
            return pybind11::make_tuple(given(packed, own.batch_sizes), given(packed, own.order),
                                        given(!packed, own.lengths), own.resets);
          })
      .def_property_readonly("masks", [](const Recorded& recorded) { return recorded.masks; })
      .def("forget_origins", &Recorded::forget_origins)
      .def("backward", &Recorded::backward);
}

}  // namespace fastrnn
