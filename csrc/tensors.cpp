#include "tensors.h"

#include <utility>

namespace py = pybind11;

namespace fastrnn {
namespace {

bool is_true(PyObject* answer) {
  if (!answer) PyErr_Clear();
  const bool yes = answer == Py_True;
  Py_XDECREF(answer);
  return yes;
}

// A view whose sign changes when it is read
bool is_negative(py::handle tensor) {
  static PyObject* const name = PyUnicode_InternFromString("is_neg");
  return is_true(PyObject_CallMethodNoArgs(tensor.ptr(), name));
}

bool has(const dlpack::Tensor& tensor, DType dtype, Sizes sizes) {
  DType own;
  return read_dtype(tensor, own) && own == dtype &&
         std::equal(sizes.begin(), sizes.end(), tensor.shape, tensor.shape + tensor.ndim);
}

bool is_contiguous(const dlpack::Tensor& tensor) {
  int64_t stride = 1;
  for (int i = tensor.ndim - 1; i >= 0; --i) {
    if (tensor.shape[i] > 1 && tensor.strides[i] != stride) return false;
    stride *= tensor.shape[i];
  }
  return true;
}

bool has_contiguous_rows(const dlpack::Tensor& tensor) {
  const int last = tensor.ndim - 1;
  return tensor.shape[last] == 1 || tensor.strides[last] == 1;
}

py::object contiguous(py::handle tensor) {
  return tensor.attr("resolve_neg")().attr("contiguous")();
}

}  // namespace

Tensors::Tensors(const py::capsule& exchange_api, py::tuple plain_types)
    : api_(exchange_api.get_pointer<dlpack::ExchangeApi>()), plain_types_(std::move(plain_types)) {
  while (api_ && api_->version.major != dlpack::kMajorVersion) api_ = api_->previous;
  if (!api_ || !api_->read) throw py::import_error("DLPack's exchange API: expected version 1");
}

bool Tensors::read(py::handle object, dlpack::Tensor& tensor) const {
  bool plain = false;
  for (py::handle type : plain_types_)
    plain |= type.ptr() == reinterpret_cast<PyObject*>(Py_TYPE(object.ptr()));
  if (!plain) return false;
  if (api_->read(object.ptr(), &tensor) != 0) {
    PyErr_Clear();
    return false;
  }
  return tensor.data && tensor.strides && tensor.device.type == dlpack::kCpu &&
         !is_negative(object);
}

bool Tensors::read_contiguous(py::handle object, DType dtype, Sizes sizes, Address& address) const {
  dlpack::Tensor tensor;
  if (!read(object, tensor) || !has(tensor, dtype, sizes) || !is_contiguous(tensor)) return false;
  address = address_of(tensor);
  return true;
}

bool Tensors::read_rows(py::object& object, DType dtype, Sizes sizes,
                        dlpack::Tensor& tensor) const {
  if (read(object, tensor) && has(tensor, dtype, sizes) && has_contiguous_rows(tensor)) return true;
  object = contiguous(object);
  return read(object, tensor) && has(tensor, dtype, sizes);
}

bool Tensors::copy_contiguous(py::object& object, DType dtype, Sizes sizes,
                              Address& address) const {
  if (object.is_none() || read_contiguous(object, dtype, sizes, address)) return true;
  object = contiguous(object);
  return read_contiguous(object, dtype, sizes, address);
}

py::object Tensors::new_empty(py::handle like, Sizes sizes, Address& address) const {
  static PyObject* const name = PyUnicode_InternFromString("new_empty");
  // As arguments of their own, which torch reads faster than a tuple
  py::object integers[Sizes::kMost];
  PyObject* arguments[1 + Sizes::kMost] = {like.ptr()};
  for (int i = 0; i < sizes.count(); ++i) {
    integers[i] = py::int_(sizes.begin()[i]);
    arguments[1 + i] = integers[i].ptr();
  }
  PyObject* result = PyObject_VectorcallMethod(name, arguments, 1 + sizes.count(), nullptr);
  if (!result) throw py::error_already_set();
  py::object made = py::reinterpret_steal<py::object>(result);
  dlpack::Tensor tensor;
  if (!read(made, tensor)) return py::none();
  address = address_of(tensor);
  return made;
}

bool requires_grad(py::handle tensor) {
  static PyObject* const name = PyUnicode_InternFromString("requires_grad");
  return is_true(PyObject_GetAttr(tensor.ptr(), name));
}

bool read_dtype(const dlpack::Tensor& tensor, DType& dtype) {
  const dlpack::DataType& type = tensor.dtype;
  dtype = type.bits == 32 ? DType::kFloat32 : DType::kFloat64;
  return type.code == dlpack::kFloat && (type.bits == 32 || type.bits == 64) && type.lanes == 1;
}

Address address_of(const dlpack::Tensor& tensor) {
  return reinterpret_cast<Address>(tensor.data) + tensor.byte_offset;
}

}  // namespace fastrnn
