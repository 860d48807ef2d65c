#include "saved_call.h"

namespace py = pybind11;

namespace fastrnn {

py::tuple SavedCall::sizes() const {
  const Sizes sizes = form.sequence(shape, shape.features());
  py::tuple found(sizes.count());
  for (int i = 0; i < sizes.count(); ++i) found[i] = sizes.begin()[i];
  return found;
}

py::list SavedCall::origins() const {
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
bool SavedCall::is_where_it_was(size_t place, py::handle tensor, Address address) const {
  if (place >= origins_.size() || origins_[place].tensor != tensor.ptr()) return true;
  return origins_[place].address == address;
}

bool SavedCall::read_saved(const py::tuple& saved, Memory memory_of_kept, int64_t kept,
                           Pullback& call) const {
  size_t next = 0;
  const auto read = [&](Memory of, Sizes sizes, Address& address) {
    const py::object tensor = saved[next];
    call.alive.push_back(tensor);
    return tensors.copy_contiguous(call.alive.back(), of, sizes, address) &&
           is_where_it_was(next++, tensor, address);
  };
  const py::object tensor = saved[next];
  call.alive.push_back(tensor);
  if (!tensor.is_none()) {
    dlpack::Tensor x;
    if (!tensors.read_rows(call.alive.back(), memory, form.sequence(shape, shape.features()), x) ||
        !is_where_it_was(next, tensor, address_of(x)))
      return false;
    call.at.x = form.strided(x);
  }
  ++next;
  if (!read(memory, form.state(shape, shape.out()), call.at.h0) ||
      !read(memory, form.state(shape, shape.state_stride(1)), call.at.c0))
    return false;
  const bool weights_read = for_each_weight(shape, cell.gates, [&](Sizes sizes) {
    call.at.weights.push_back(0);
    return read(memory, sizes, call.at.weights.back());
  });
  for (size_t i = 0; weights_read && i < masks; ++i) {
    call.at.masks.push_back(0);
    if (!read(memory, ragged.mask(shape), call.at.masks.back()) || !call.at.masks.back())
      return false;
  }
  return weights_read && read(memory_of_kept, {kept}, call.at.saved) && call.at.saved != 0;
}

bool SavedCall::read_gradients(const py::tuple& d_outputs, Pullback& call) const {
  size_t next = 0;
  const py::object of_y = d_outputs[next++];
  call.alive.push_back(of_y);
  if (!of_y.is_none()) {
    dlpack::Tensor d_y;
    if (!tensors.read_rows(call.alive.back(), memory,
                           form.sequence(shape, shape.directions * shape.out()), d_y))
      return false;
    call.at.d_y = form.strided(d_y);
  }
  const auto read_state = [&](int64_t features, Address& address) {
    call.alive.push_back(d_outputs[next++]);
    return tensors.copy_contiguous(call.alive.back(), memory, form.state(shape, features), address);
  };
  if (!form.one_step && !read_state(shape.out(), call.at.d_h_n)) return false;
  return !cell.has_cell_state || read_state(shape.state_stride(1), call.at.d_c_n);
}

}  // namespace fastrnn
