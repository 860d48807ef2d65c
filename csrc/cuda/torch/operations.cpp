#include "operations.h"

#include <utility>

namespace py = pybind11;

namespace fastrnn::cuda {
namespace {

py::object checked(PyObject* returned) {
  if (!returned) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(returned);
}

// pybind11's own way of calling makes a tuple first, at a price that small calls notice.
template <class... Arguments>
py::object call(const py::object& function, const Arguments&... arguments) {
  PyObject* all[] = {arguments.ptr()...};
  return checked(PyObject_Vectorcall(function.ptr(), all, sizeof...(arguments), nullptr));
}

// names: of the last arguments
template <class... Arguments>
py::object call_with(const py::tuple& names, const py::object& function,
                     const Arguments&... arguments) {
  PyObject* all[] = {arguments.ptr()...};
  const size_t positional = sizeof...(arguments) - names.size();
  return checked(PyObject_Vectorcall(function.ptr(), all, positional, names.ptr()));
}

}  // namespace

Operations::Operations(const py::module_& torch, py::function multiply, py::function stream_of,
                       py::function uses_tf32, py::tuple dtypes, py::function set_grad_enabled)
    : mm_(torch.attr("mm")),
      sum_(torch.attr("sum")),
      multiply_(std::move(multiply)),
      stream_of_(std::move(stream_of)),
      uses_tf32_(std::move(uses_tf32)),
      dtypes_(std::move(dtypes)),
      set_grad_enabled_(std::move(set_grad_enabled)),
      out_(py::make_tuple("out")) {
  const py::object tensor = torch.attr("Tensor");
  transposed_ = tensor.attr("t");
  view_ = tensor.attr("view");
  narrow_ = tensor.attr("narrow");
  as_strided_ = tensor.attr("as_strided");
  contiguous_ = tensor.attr("contiguous");
  clone_ = tensor.attr("clone");
  to_ = tensor.attr("to");
  copy_ = tensor.attr("copy_");
  addmm_ = tensor.attr("addmm_");
  roll_ = tensor.attr("roll");
}

py::object Operations::transposed(py::handle matrix) const { return call(transposed_, matrix); }

py::object Operations::as_rows(py::handle sequence, int64_t width) const {
  return call(view_, sequence, py::int_(-1), py::int_(width));
}

py::object Operations::part(py::handle tensor, int dim, int64_t first, int64_t count) const {
  return call(narrow_, tensor, py::int_(dim), py::int_(first), py::int_(count));
}

py::object Operations::piece(py::handle block, Element of_block, Element element, int64_t rows,
                             int64_t width, int64_t offset) const {
  py::object whole = py::reinterpret_borrow<py::object>(block);
  if (of_block != element) whole = call(view_, block, dtypes_[static_cast<size_t>(element)]);
  return call(as_strided_, whole, py::make_tuple(rows, width), py::make_tuple(width, 1),
              py::int_(offset));
}

py::object Operations::contiguous(py::handle tensor) const { return call(contiguous_, tensor); }

py::object Operations::copied(py::handle tensor) const { return call(clone_, tensor); }

py::object Operations::rolled(py::handle tensor, int64_t by) const {
  return call(roll_, tensor, py::int_(by), py::int_(0));
}

py::object Operations::with(py::handle tensor, Element element) const {
  return call(to_, tensor, dtypes_[static_cast<size_t>(element)]);
}

void Operations::copy(py::handle to, py::handle from) const { call(copy_, to, from); }

py::object Operations::product(py::handle a, py::handle b) const { return call(mm_, a, b); }

void Operations::product(py::handle a, py::handle b, py::handle out) const {
  call_with(out_, mm_, a, b, out);
}

void Operations::add_product(py::handle sum, py::handle a, py::handle b) const {
  call(addmm_, sum, a, b);
}

void Operations::multiply(py::handle a, py::handle b, py::handle out) const {
  call(multiply_, a, b, out);
}

py::object Operations::sum_of_rows(py::handle matrix) const {
  return call(sum_, matrix, py::int_(0));
}

Precision Operations::precision(Element element) const {
  switch (element) {
    case Element::kFloat64:
      return Precision::kFloat64;
    case Element::kFloat16:
      return Precision::kFloat16;
    case Element::kBFloat16:
      return Precision::kBFloat16;
    default:
      return call(uses_tf32_).ptr() == Py_True ? Precision::kTf32 : Precision::kFloat32;
  }
}

Stream Operations::stream(int device) const {
  const auto handle = call(stream_of_, py::int_(device)).cast<uintptr_t>();
  return {device, reinterpret_cast<void*>(handle)};
}

WithoutGradients::WithoutGradients(const Operations& torch, bool recorded)
    : torch_(torch), recorded_(recorded) {
  if (recorded_) call(torch_.set_grad_enabled_, py::bool_(false));
}

WithoutGradients::~WithoutGradients() {
  if (!recorded_) return;
  PyObject* const returned = PyObject_CallOneArg(torch_.set_grad_enabled_.ptr(), Py_True);
  if (!returned) PyErr_Clear();
  Py_XDECREF(returned);
}

}  // namespace fastrnn::cuda
