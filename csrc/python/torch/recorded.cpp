#include "recorded.h"

namespace py = pybind11;

namespace fastrnn {

int64_t kept_elements(const Plan& plan) {
  const int64_t size = bytes_of(element_of(plan.shape.dtype));
  return (plan.saved_bytes + size - 1) / size;
}

bool Recorded::make_gradients(const py::sequence& needed, Pullback& call) const {
  size_t next = 0;
  const auto make = [&](Sizes sizes, Address& address) {
    const size_t place = next++;
    const bool wanted = needed[place].ptr() == Py_True;
    call.gradients[place] = wanted ? tensors.new_empty(memory, sizes, address) : py::none();
    return !wanted || address != 0;
  };
  Address d_x = 0;
  if (!make(form.sequence(shape, shape.features()), d_x) ||
      !make(form.state(shape, shape.out()), call.at.d_h0) ||
      !make(form.state(shape, shape.state_stride(1)), call.at.d_c0))
    return false;
  call.at.d_x = form.contiguous(shape, shape.features(), d_x);
  return for_each_weight(shape, cell.gates, [&](Sizes sizes) {
    call.at.d_weights.push_back(0);
    return make(sizes, call.at.d_weights.back());
  });
}

py::object Recorded::backward(const py::tuple& saved, const py::tuple& d_outputs,
                              const py::sequence& needed) const {
  Pullback call(needed.size());
  call.alive.reserve(saved.size() + d_outputs.size());
  if (!read_saved(saved, memory, kept_elements(plan), call) || !read_gradients(d_outputs, call) ||
      !make_gradients(needed, call))
    return py::none();
  run_backward(plan, call.at);
  return call.gradients;
}

}  // namespace fastrnn
