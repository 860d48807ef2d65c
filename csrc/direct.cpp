#include "direct.h"

#include <memory>
#include <utility>

#include "cpu/dispatch.h"

namespace py = pybind11;

namespace fastrnn {
namespace {

bool is_true(PyObject* answer) {
  if (!answer) PyErr_Clear();
  const bool yes = answer == Py_True;
  Py_XDECREF(answer);
  return yes;
}

bool requires_grad(py::handle tensor) {
  static PyObject* const name = PyUnicode_InternFromString("requires_grad");
  return is_true(PyObject_GetAttr(tensor.ptr(), name));
}

// A view whose sign changes when it is read
bool is_negative(py::handle tensor) {
  static PyObject* const name = PyUnicode_InternFromString("is_neg");
  return is_true(PyObject_CallMethodNoArgs(tensor.ptr(), name));
}

Address address_of(const dlpack::Tensor& tensor) {
  return reinterpret_cast<Address>(tensor.data) + tensor.byte_offset;
}

bool same(const dlpack::DataType& a, const dlpack::DataType& b) {
  return a.code == b.code && a.bits == b.bits && a.lanes == b.lanes;
}

bool is_float(const dlpack::DataType& type, uint8_t bits) {
  return same(type, {dlpack::kFloat, bits, 1});
}

bool is_contiguous(const dlpack::Tensor& tensor, std::initializer_list<int64_t> sizes) {
  if (tensor.ndim != static_cast<int>(sizes.size())) return false;
  int64_t stride = 1;
  for (int i = tensor.ndim - 1; i >= 0; --i) {
    const int64_t size = sizes.begin()[i];
    if (tensor.shape[i] != size || (size > 1 && tensor.strides[i] != stride)) return false;
    stride *= size;
  }
  return true;
}

py::object pair(py::object first, py::object second) {
  return py::make_tuple(std::move(first), std::move(second));
}

}  // namespace

Direct::Direct(const Shape& shape, bool one_step, const py::capsule& exchange_api,
               py::tuple plain_types)
    : shape_(shape),
      one_step_(one_step),
      api_(exchange_api.get_pointer<dlpack::ExchangeApi>()),
      plain_types_(std::move(plain_types)) {
  while (api_ && api_->version.major != dlpack::kMajorVersion) api_ = api_->previous;
  if (!api_ || !api_->read) throw py::import_error("DLPack's exchange API: expected version 1");
}

bool Direct::read(py::handle object, bool grad_enabled, dlpack::Tensor& tensor) const {
  bool plain = false;
  for (py::handle type : plain_types_)
    plain |= type.ptr() == reinterpret_cast<PyObject*>(Py_TYPE(object.ptr()));
  if (!plain) return false;
  if (api_->read(object.ptr(), &tensor) != 0) {
    PyErr_Clear();
    return false;
  }
  return tensor.data && tensor.strides && tensor.device.type == dlpack::kCpu &&
         !is_negative(object) && !(grad_enabled && requires_grad(object));
}

bool Direct::read_like(const dlpack::Tensor& like, py::handle object, bool grad_enabled,
                       Sizes sizes, Address& address) const {
  dlpack::Tensor tensor;
  if (!read(object, grad_enabled, tensor) || !same(tensor.dtype, like.dtype) ||
      !is_contiguous(tensor, sizes))
    return false;
  address = address_of(tensor);
  return true;
}

bool Direct::read_weights(const dlpack::Tensor& like, const py::sequence& weights,
                          bool grad_enabled, Addresses& flat) const {
  const size_t count = weights.size();
  flat.reserve(count);
  const auto read_next = [&](Sizes sizes) {
    if (flat.size() == count) return false;
    const py::object weight = weights[flat.size()];
    flat.push_back(0);
    return read_like(like, weight, grad_enabled, sizes, flat.back());
  };
  const int64_t rows = cell().gates * shape_.H;
  for (int64_t i = 0; i < shape_.layers * shape_.directions; ++i) {
    if (!read_next({rows, shape_.in(i / shape_.directions)})) return false;
    if (!read_next({rows, shape_.out()})) return false;
    if (shape_.bias && !(read_next({rows}) && read_next({rows}))) return false;
    if (shape_.P > 0 && !read_next({shape_.P, shape_.H})) return false;
    const int64_t peepholes = shape_.variant.peepholes;
    if (peepholes && !read_next({peepholes * shape_.H})) return false;
  }
  return flat.size() == count;
}

const CellKernels<float>& Direct::cell() const {
  return active_kernels().f32.cells[static_cast<int>(shape_.cell)];
}

py::object Direct::new_empty(py::handle like, Sizes sizes, Address& address) const {
  py::tuple shape(sizes.size());
  for (size_t i = 0; i < sizes.size(); ++i) shape[i] = sizes.begin()[i];
  py::object made = like.attr("new_empty")(std::move(shape));
  dlpack::Tensor tensor;
  if (!read(made, false, tensor)) return py::none();  // some mode of torch's makes other tensors
  address = address_of(tensor);
  return made;
}

py::object Direct::call(py::handle x, py::handle hx, const py::sequence& weights, bool batch_first,
                        bool grad_enabled, int threads) const {
  dlpack::Tensor data;
  if (!read(x, grad_enabled, data) || data.ndim != (one_step_ ? 2 : 3)) return py::none();
  if (!is_float(data.dtype, 32) && !is_float(data.dtype, 64)) return py::none();
  const int last = data.ndim - 1;
  if (data.shape[last] != shape_.I || data.strides[last] != 1) return py::none();

  const int time = batch_first ? 1 : 0, batch = one_step_ ? 0 : 1 - time;
  Shape shape = shape_;
  shape.dtype = is_float(data.dtype, 32) ? DType::kFloat32 : DType::kFloat64;
  shape.T = one_step_ ? 1 : data.shape[time];
  shape.B = data.shape[batch];
  if (shape.T == 0 || shape.B == 0) return py::none();
  const int64_t T = shape.T, B = shape.B, states = shape.layers * shape.directions;

  const auto read_state = [&](py::handle state, int64_t features, Address& address) {
    return one_step_ ? read_like(data, state, grad_enabled, {B, features}, address)
                     : read_like(data, state, grad_enabled, {states, B, features}, address);
  };
  const bool has_cell_state = cell().has_cell_state;
  Address h0 = 0, c0 = 0, y = 0, h_n = 0, c_n = 0;
  if (hx.is_none()) {
    // zeros
  } else if (!has_cell_state) {
    if (!read_state(hx, shape.out(), h0)) return py::none();
  } else {
    if (!PyTuple_CheckExact(hx.ptr()) || PyTuple_GET_SIZE(hx.ptr()) != 2) return py::none();
    if (!read_state(PyTuple_GET_ITEM(hx.ptr(), 0), shape.out(), h0) ||
        !read_state(PyTuple_GET_ITEM(hx.ptr(), 1), shape.H, c0))
      return py::none();
  }
  Addresses flat;
  if (!read_weights(data, weights, grad_enabled, flat)) return py::none();

  const int64_t out = shape.directions * shape.out();
  const auto new_state = [&](int64_t features, Address& address) {
    return one_step_ ? new_empty(x, {B, features}, address)
                     : new_empty(x, {states, B, features}, address);
  };
  const py::object output = one_step_     ? new_empty(x, {B, out}, y)
                            : batch_first ? new_empty(x, {B, T, out}, y)
                                          : new_empty(x, {T, B, out}, y);
  const py::object hidden = one_step_ ? output : new_state(shape.out(), h_n);
  const py::object last_cell = has_cell_state ? new_state(shape.H, c_n) : py::none();
  if (one_step_) h_n = y;
  if (!y || !h_n || (has_cell_state && !c_n)) return py::none();

  const Plan plan(shape, Batch(T, B, {}, {}, false, nullptr), false, false, false, threads,
                  active_kernels());
  const std::unique_ptr<char[]> workspace(new char[plan.forward_bytes]);
  const Strided from = {address_of(data), one_step_ ? 0 : data.strides[time], data.strides[batch]};
  const Strided to = {y,
                      one_step_     ? 0
                      : batch_first ? out
                                    : B * out,
                      !one_step_ && batch_first ? T * out : out};
  run_forward(plan, from, to, h0, c0, h_n, c_n, 0, 0, flat, {}, 0,
              reinterpret_cast<Address>(workspace.get()));
  if (!has_cell_state) return one_step_ ? output : pair(output, hidden);
  return one_step_ ? pair(output, last_cell) : pair(output, pair(hidden, last_cell));
}

}  // namespace fastrnn
