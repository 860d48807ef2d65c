#include "recorded.h"

#include <vector>

namespace py = pybind11;

namespace fastrnn {

Sizes Form::sequence(const Shape& shape, int64_t features) const {
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
  if (one_step) return {address, 0, sequence.strides[0]};
  return {address, sequence.strides[batch_first ? 1 : 0], sequence.strides[batch_first ? 0 : 1]};
}

Strided Form::contiguous(const Shape& shape, int64_t features, Address sequence) const {
  if (one_step) return {sequence, 0, features};
  if (batch_first) return {sequence, features, shape.T * features};
  return {sequence, shape.B * features, features};
}

int64_t kept_elements(const Plan& plan) {
  const int64_t size = plan.shape.dtype == DType::kFloat32 ? sizeof(float) : sizeof(double);
  return (plan.saved_bytes + size - 1) / size;
}

struct Recorded::Pullback {
  explicit Pullback(size_t count) : gradients(count) {}
  std::vector<py::object> alive;
  py::tuple gradients;
  BackwardAddresses at;
};

CellFacts::CellFacts(const Shape& shape, const KernelTable& kernels) {
  if (shape.program) {
    gates = shape.program->gates;
    has_cell_state = shape.program->states > 1;
    return;
  }
  const CellKernels<float>& cell = kernels.f32.cells[static_cast<int>(shape.cell)];
  gates = cell.gates;
  has_cell_state = cell.has_cell_state();
}

py::tuple Recorded::sizes() const {
  const Sizes sizes = form.sequence(plan.shape, plan.shape.features());
  py::tuple found(sizes.count());
  for (int i = 0; i < sizes.count(); ++i) found[i] = sizes.begin()[i];
  return found;
}

py::list Recorded::origins() const {
  py::list found;
  for (const Origin& origin : origins_) {
    if (!origin.tensor) {
      found.append(py::none());
      continue;
    }
    const py::object storage = origin.storage ? origin.storage : py::none();
    found.append(py::make_tuple(reinterpret_cast<Address>(origin.tensor), origin.address, storage,
                                py::none()));
  }
  return found;
}

// What hooks on saved tensors have made lies anywhere.
bool Recorded::is_where_it_was(size_t place, py::handle tensor, Address address) const {
  if (place >= origins_.size() || origins_[place].tensor != tensor.ptr()) return true;
  return origins_[place].address == address;
}

bool Recorded::read_saved(const py::tuple& saved, Pullback& call) const {
  const Shape& shape = plan.shape;
  size_t next = 0;
  const auto read = [&](Sizes sizes, Address& address) {
    const py::object tensor = saved[next];
    call.alive.push_back(tensor);
    return tensors_.copy_contiguous(call.alive.back(), shape.dtype, sizes, address) &&
           is_where_it_was(next++, tensor, address);
  };
  if (const py::object tensor = saved[next]; !tensor.is_none()) {
    dlpack::Tensor x;
    call.alive.push_back(tensor);
    if (!tensors_.read_rows(call.alive.back(), shape.dtype, form.sequence(shape, shape.features()),
                            x) ||
        !is_where_it_was(next, tensor, address_of(x)))
      return false;
    call.at.x = form.strided(x);
  }
  ++next;
  if (!read(form.state(shape, shape.out()), call.at.h0) ||
      !read(form.state(shape, shape.state_stride(1)), call.at.c0))
    return false;
  const bool weights_read = for_each_weight(shape, cell().gates, [&](Sizes sizes) {
    call.at.weights.push_back(0);
    return read(sizes, call.at.weights.back());
  });
  return weights_read && read({kept_elements(plan)}, call.at.saved) && call.at.saved != 0;
}

bool Recorded::read_gradients(const py::tuple& d_outputs, Pullback& call) const {
  const Shape& shape = plan.shape;
  size_t next = 0;
  if (const py::object of_y = d_outputs[next++]; !of_y.is_none()) {
    dlpack::Tensor d_y;
    call.alive.push_back(of_y);
    if (!tensors_.read_rows(call.alive.back(), shape.dtype,
                            form.sequence(shape, shape.directions * shape.out()), d_y))
      return false;
    call.at.d_y = form.strided(d_y);
  }
  const auto read_state = [&](int64_t features, Address& address) {
    call.alive.push_back(d_outputs[next++]);
    return tensors_.copy_contiguous(call.alive.back(), shape.dtype, form.state(shape, features),
                                    address);
  };
  if (!form.one_step && !read_state(shape.out(), call.at.d_h_n)) return false;
  return !cell().has_cell_state || read_state(shape.state_stride(1), call.at.d_c_n);
}

bool Recorded::make_gradients(const py::sequence& needed, Pullback& call) const {
  const Shape& shape = plan.shape;
  size_t next = 0;
  const auto make = [&](Sizes sizes, Address& address) {
    const size_t place = next++;
    const bool wanted = needed[place].ptr() == Py_True;
    call.gradients[place] = wanted ? tensors_.new_empty(shape.dtype, sizes, address) : py::none();
    return !wanted || address != 0;
  };
  Address d_x = 0;
  if (!make(form.sequence(shape, shape.features()), d_x) ||
      !make(form.state(shape, shape.out()), call.at.d_h0) ||
      !make(form.state(shape, shape.state_stride(1)), call.at.d_c0))
    return false;
  call.at.d_x = form.contiguous(shape, shape.features(), d_x);
  return for_each_weight(shape, cell().gates, [&](Sizes sizes) {
    call.at.d_weights.push_back(0);
    return make(sizes, call.at.d_weights.back());
  });
}

py::object Recorded::backward(const py::tuple& saved, const py::tuple& d_outputs,
                              const py::sequence& needed) const {
  Pullback call(saved.size() - 1);
  call.alive.reserve(saved.size() + d_outputs.size());
  if (!read_saved(saved, call) || !read_gradients(d_outputs, call) || !make_gradients(needed, call))
    return py::none();
  run_backward(plan, call.at);
  return call.gradients;
}

}  // namespace fastrnn
