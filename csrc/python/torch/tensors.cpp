#include "tensors.h"

#include <functional>
#include <numeric>
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

bool has(const dlpack::Tensor& tensor, Memory memory, Sizes sizes) {
  Element own;
  return read_element(tensor, own) && own == memory.element && tensor.device.id == memory.device &&
         std::equal(sizes.begin(), sizes.end(), tensor.shape, tensor.shape + tensor.ndim);
}

bool has_contiguous_rows(const dlpack::Tensor& tensor) {
  const int last = tensor.ndim - 1;
  return tensor.shape[last] == 1 || tensor.strides[last] == 1;
}

template <class Real>
void fill_rows(const dlpack::Tensor& tensor, Real* to) {
  const Real* from = at<const Real>(address_of(tensor));
  const int last = tensor.ndim - 1;
  const int64_t width = tensor.shape[last];
  const int64_t rows =
      std::accumulate(tensor.shape, tensor.shape + last, int64_t{1}, std::multiplies<int64_t>());
  for (int64_t row = 0; row < rows; ++row, to += width) {
    int64_t offset = 0;
    for (int64_t i = last - 1, rest = row; i >= 0; rest /= tensor.shape[i--])
      offset += rest % tensor.shape[i] * tensor.strides[i];
    std::fill_n(to, width, from[offset]);
  }
}

py::object contiguous(py::handle tensor) {
  return tensor.attr("resolve_neg")().attr("contiguous")();
}

}  // namespace

Tensors::Tensors(const py::capsule& exchange_api, py::tuple plain_types, py::function make_empty,
                 py::tuple dtypes, int32_t device_type)
    : api_(exchange_api.get_pointer<dlpack::ExchangeApi>()),
      plain_types_(std::move(plain_types)),
      is_neg_(plain_types_[0].attr("is_neg")),
      untyped_storage_(plain_types_[0].attr("untyped_storage")),
      make_empty_(std::move(make_empty)),
      dtypes_(std::move(dtypes)),
      device_type_(device_type) {
  while (api_ && api_->version.major != dlpack::kMajorVersion) api_ = api_->previous;
  if (!api_ || !api_->read) throw py::import_error("DLPack's exchange API: expected version 1");
}

bool Tensors::read_memory(py::handle object, dlpack::Tensor& tensor) const {
  bool plain = false;
  for (py::handle type : plain_types_)
    plain |= type.ptr() == reinterpret_cast<PyObject*>(Py_TYPE(object.ptr()));
  if (!plain) return false;
  if (api_->read(object.ptr(), &tensor) != 0) {
    PyErr_Clear();
    return false;
  }
  return tensor.data && tensor.strides && tensor.device.type == device_type_;
}

// A view whose sign changes when it is read
bool Tensors::is_negative(py::handle tensor) const {
  return is_true(PyObject_CallOneArg(is_neg_.ptr(), tensor.ptr()));
}

bool Tensors::read(py::handle object, dlpack::Tensor& tensor) const {
  return read_memory(object, tensor) && !is_negative(object);
}

bool Tensors::read_contiguous(py::handle object, Memory memory, Sizes sizes,
                              Address& address) const {
  dlpack::Tensor tensor;
  if (!read(object, tensor) || !has(tensor, memory, sizes) || !is_contiguous(tensor)) return false;
  address = address_of(tensor);
  return true;
}

bool Tensors::repeats_in_rows(const dlpack::Tensor& tensor) const {
  return device_type_ == dlpack::kCpu && tensor.dtype.bits >= 32 &&
         tensor.strides[tensor.ndim - 1] == 0;
}

// A contiguous copy of what repeats one number in each row, as the gradient of a sum does. Torch
// would take a tenth of a small backward pass for it.
py::object Tensors::repeated(const dlpack::Tensor& tensor, Memory memory, Sizes sizes) const {
  Address address = 0;
  py::object made = new_empty(memory, sizes, address);
  if (!address) return made;
  if (memory.element == Element::kFloat32)
    fill_rows(tensor, at<float>(address));
  else
    fill_rows(tensor, at<double>(address));
  return made;
}

template <class Suits>
bool Tensors::read_or_copy(py::object& object, Memory memory, Sizes sizes, Suits suits,
                           dlpack::Tensor& tensor) const {
  if (!read_memory(object, tensor) || !has(tensor, memory, sizes)) return false;
  const bool negative = is_negative(object);
  if (!negative && suits(tensor)) return true;
  object =
      !negative && repeats_in_rows(tensor) ? repeated(tensor, memory, sizes) : contiguous(object);
  return read(object, tensor) && has(tensor, memory, sizes);
}

bool Tensors::read_rows(py::object& object, Memory memory, Sizes sizes,
                        dlpack::Tensor& tensor) const {
  return read_or_copy(object, memory, sizes, has_contiguous_rows, tensor);
}

bool Tensors::copy_contiguous(py::object& object, Memory memory, Sizes sizes,
                              Address& address) const {
  if (object.is_none()) return true;
  dlpack::Tensor tensor;
  if (!read_or_copy(object, memory, sizes, is_contiguous, tensor)) return false;
  address = address_of(tensor);
  return true;
}

py::object Tensors::storage_of_parameter(py::handle tensor) const {
  if (reinterpret_cast<PyObject*>(Py_TYPE(tensor.ptr())) != py::handle(plain_types_[1]).ptr())
    return {};
  return untyped_storage_(tensor);
}

py::object Tensors::new_empty(Memory memory, Sizes sizes, Address& address, bool swapped) const {
  py::tuple shape(sizes.count()), strides(sizes.count());
  int64_t stride = 1;
  for (int i = sizes.count() - 1; i >= 0; --i) {
    shape[i] = sizes.begin()[i];
    strides[i] = stride;
    stride *= sizes.begin()[i];
  }
  if (swapped) {
    strides[0] = strides[1];
    strides[1] = sizes.begin()[0] * sizes.begin()[2];
  }
  py::object made = make_empty_(shape, strides, dtype(memory.element));
  dlpack::Tensor tensor;
  if (read_memory(made, tensor) && tensor.device.id == memory.device) address = address_of(tensor);
  return made;
}

bool requires_grad(py::handle tensor) {
  static PyObject* const name = PyUnicode_InternFromString("requires_grad");
  return is_true(PyObject_GetAttr(tensor.ptr(), name));
}

bool read_element(const dlpack::Tensor& tensor, Element& element) {
  const dlpack::DataType& type = tensor.dtype;
  if (type.lanes != 1) return false;
  if (type.code == dlpack::kBfloat && type.bits == 16) {
    element = Element::kBFloat16;
    return true;
  }
  element = type.bits == 32   ? Element::kFloat32
            : type.bits == 64 ? Element::kFloat64
                              : Element::kFloat16;
  return type.code == dlpack::kFloat && type.bits == 8 * bytes_of(element);
}

int64_t bytes_of(Element element) {
  if (element == Element::kFloat32) return 4;
  return element == Element::kFloat64 ? 8 : 2;
}

bool is_contiguous(const dlpack::Tensor& tensor) {
  int64_t stride = 1;
  for (int i = tensor.ndim - 1; i >= 0; --i) {
    if (tensor.shape[i] > 1 && tensor.strides[i] != stride) return false;
    stride *= tensor.shape[i];
  }
  return true;
}

Address address_of(const dlpack::Tensor& tensor) {
  return reinterpret_cast<Address>(tensor.data) + tensor.byte_offset;
}

}  // namespace fastrnn
