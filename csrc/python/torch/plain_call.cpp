#include "plain_call.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace py = pybind11;

namespace fastrnn {

Sizes Form::sequence(const Shape& shape, int64_t features) const {
  if (packed_rows > 0) return {packed_rows, features};
  if (one_step) return {shape.B, features};
  if (batch_first) return {shape.B, shape.T, features};
  return {shape.T, shape.B, features};
}

Sizes Form::state(const Shape& shape, int64_t features) const {
  if (one_step) return {shape.B, features};
  return {shape.layers * shape.directions, shape.B, features};
}

Strided Form::strided(const dlpack::Tensor& sequence) const {
  const Address address = address_of(sequence);
  if (one_step || packed_rows > 0) return {address, 0, sequence.strides[0]};
  return {address, sequence.strides[batch_first ? 1 : 0], sequence.strides[batch_first ? 0 : 1]};
}

Strided Form::contiguous(const Shape& shape, int64_t features, Address sequence) const {
  if (one_step || packed_rows > 0) return {sequence, 0, features};
  if (batch_first) return {sequence, features, shape.T * features};
  return {sequence, shape.B * features, features};
}

bool PlainCall::read(py::handle tensor, Memory own, Sizes sizes, Address& address) {
  differentiable = differentiable || (grad_enabled && requires_grad(tensor));
  return tensors.read_contiguous(tensor, own, sizes, address);
}

namespace {

// The elements of a contiguous vector of int64; false if it is another tensor
bool read_integers(const Tensors& tensors, py::handle given, std::vector<int64_t>& values) {
  dlpack::Tensor tensor;
  if (!tensors.read(given, tensor) || tensor.ndim != 1 || !is_contiguous(tensor)) return false;
  if (tensor.dtype.code != dlpack::kInt || tensor.dtype.bits != 64) return false;
  const int64_t* first = at<const int64_t>(address_of(tensor));
  values.assign(first, first + tensor.shape[0]);
  return true;
}

bool is_permutation(const std::vector<int64_t>& order) {
  std::vector<bool> seen(order.size());
  for (int64_t entry : order) {
    if (entry < 0 || entry >= static_cast<int64_t>(seen.size()) || seen[entry]) return false;
    seen[entry] = true;
  }
  return true;
}

}  // namespace

bool PlainCall::read_packed(py::handle batch_sizes, py::handle sorted_indices) {
  std::vector<int64_t>& sizes = ragged.batch_sizes;
  if (!read_integers(tensors, batch_sizes, sizes) || sizes.empty() || sizes.back() < 1 ||
      !std::is_sorted(sizes.rbegin(), sizes.rend()))
    return false;
  shape.T = static_cast<int64_t>(sizes.size());
  shape.B = sizes.front();
  form.packed_rows = std::accumulate(sizes.begin(), sizes.end(), int64_t{0});
  if (sorted_indices.is_none()) return true;
  return read_integers(tensors, sorted_indices, ragged.order) &&
         static_cast<int64_t>(ragged.order.size()) == shape.B && is_permutation(ragged.order);
}

// Rows in the order of falling lengths, equal ones as they come
bool PlainCall::read_lengths(py::handle given) {
  std::vector<int64_t>& lengths = ragged.lengths;
  if (!read_integers(tensors, given, lengths) || static_cast<int64_t>(lengths.size()) != shape.B)
    return false;
  ragged.order.resize(lengths.size());
  std::iota(ragged.order.begin(), ragged.order.end(), 0);
  std::stable_sort(ragged.order.begin(), ragged.order.end(),
                   [&](int64_t a, int64_t b) { return lengths[a] > lengths[b]; });
  const int64_t longest = lengths[ragged.order.front()], shortest = lengths[ragged.order.back()];
  if (shortest < 0 || longest < 1 || longest > shape.T) return false;
  int64_t active = shape.B;
  for (int64_t t = 0; t < shape.T; ++t) {
    while (active > 0 && lengths[ragged.order[active - 1]] <= t) --active;
    ragged.batch_sizes.push_back(active);
  }
  return true;
}

bool PlainCall::read_resets(py::handle given) {
  dlpack::Tensor tensor;
  if (!tensors.read(given, tensor) || tensor.ndim != 2 || !fastrnn::is_contiguous(tensor) ||
      tensor.dtype.code != dlpack::kBool || tensor.shape[0] != shape.T ||
      tensor.shape[1] != shape.B)
    return false;
  ragged.resets = py::reinterpret_borrow<py::object>(given);
  ragged.flags = fastrnn::at<const bool>(address_of(tensor));
  return true;
}

bool PlainCall::read_input(py::handle given) {
  dlpack::Tensor tensor;
  const bool flat = form.one_step || form.packed_rows > 0;
  if (!tensors.read(given, tensor) || tensor.ndim != (flat ? 2 : 3)) return false;
  const int last = tensor.ndim - 1;
  if (!read_element(tensor, memory.element) || tensor.shape[last] != shape.features() ||
      tensor.strides[last] != 1)
    return false;
  memory.device = tensor.device.id;
  if (form.packed_rows > 0) {
    if (tensor.shape[0] != form.packed_rows) return false;
  } else {
    const int time = form.batch_first ? 1 : 0;
    shape.T = form.one_step ? 1 : tensor.shape[time];
    shape.B = form.one_step ? tensor.shape[0] : tensor.shape[1 - time];
  }
  x = py::reinterpret_borrow<py::object>(given);
  at.x = form.strided(tensor);
  is_contiguous = fastrnn::is_contiguous(tensor);
  differentiable = grad_enabled && requires_grad(given);
  return shape.T > 0 && shape.B > 0;
}

bool PlainCall::read_states(py::handle hx) {
  if (hx.is_none()) return true;
  const Sizes of_h = form.state(shape, shape.out());
  if (!cell.has_cell_state) {
    h = py::reinterpret_borrow<py::object>(hx);
    return read(h, memory, of_h, at.h0);
  }
  if (!PyTuple_CheckExact(hx.ptr()) || PyTuple_GET_SIZE(hx.ptr()) != 2) return false;
  h = py::reinterpret_borrow<py::object>(PyTuple_GET_ITEM(hx.ptr(), 0));
  c = py::reinterpret_borrow<py::object>(PyTuple_GET_ITEM(hx.ptr(), 1));
  return read(h, memory, of_h, at.h0) &&
         read(c, memory, form.state(shape, shape.state_stride(1)), at.c0);
}

bool PlainCall::read_weights(const py::sequence& weights) {
  const size_t count = weights.size();
  Memory of_matrices = memory;
  if (at.source == Source::kBfloat16) of_matrices.element = Element::kBFloat16;
  at.weights.reserve(count);
  const bool all = for_each_weight(shape, cell.gates, [&](Sizes sizes) {
    if (at.weights.size() == count) return false;
    const py::object weight = weights[at.weights.size()];
    at.weights.push_back(0);
    return read(weight, sizes.count() > 1 ? of_matrices : memory, sizes, at.weights.back());
  });
  return all && at.weights.size() == count;
}

bool PlainCall::read_masks(const py::sequence& masks) {
  for (const py::handle& mask : masks) {
    at.masks.push_back(0);
    if (!tensors.read_contiguous(mask, memory, ragged.mask(shape), at.masks.back())) return false;
  }
  return true;
}

bool PlainCall::make_outputs(bool time_first) {
  const int64_t width = shape.directions * shape.out();
  Address address = 0;
  const bool swapped = time_first && form.batch_first && !form.one_step;
  y = tensors.new_empty(memory, form.sequence(shape, width), address, swapped);
  at.y =
      swapped ? Strided{address, shape.B * width, width} : form.contiguous(shape, width, address);
  if (form.one_step) {
    h_n = y;
    at.h_n = address;
  } else {
    h_n = tensors.new_empty(memory, form.state(shape, shape.out()), at.h_n);
  }
  if (cell.has_cell_state)
    c_n = tensors.new_empty(memory, form.state(shape, shape.state_stride(1)), at.c_n);
  return address && at.h_n && (at.c_n || !cell.has_cell_state);
}

py::tuple PlainCall::outputs() const {
  py::list made;
  made.append(y);
  if (!form.one_step) made.append(h_n);
  if (c_n) made.append(c_n);
  return py::tuple(made);
}

std::vector<Origin> PlainCall::origins(const py::sequence& weights) const {
  std::vector<Origin> found;
  found.reserve(3 + at.weights.size());
  found.push_back({x.ptr(), std::get<0>(at.x), {}});
  for (const auto& [state, address] : {std::pair(h, at.h0), std::pair(c, at.c0)})
    found.push_back({state.is_none() ? nullptr : state.ptr(), address, {}});
  for (size_t i = 0; i < at.weights.size(); ++i) {
    const py::object weight = weights[i];
    found.push_back({weight.ptr(), at.weights[i], tensors.storage_of_parameter(weight)});
  }
  return found;
}

py::object as_returned(const py::tuple& outputs, bool one_step, bool has_cell_state) {
  if (one_step && !has_cell_state) return outputs[0];
  if (one_step || !has_cell_state) return outputs;
  return py::make_tuple(outputs[0], py::make_tuple(outputs[1], outputs[2]));
}

}  // namespace fastrnn
