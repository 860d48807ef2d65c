#include "direct.h"

#include <utility>
#include <vector>

#include "engine/forward/freeze.h"
#include "engine/kernels/dispatch.h"

namespace py = pybind11;

namespace fastrnn {

struct Direct::Inputs {
  py::handle x, hx;
  const py::sequence& weights;
  bool grad_enabled;
  Form form;
  Shape shape;

  py::object h = py::none(), c = py::none();
  ForwardAddresses at{};  // and of the outputs
  bool differentiable = false;
};

struct Direct::Outputs {
  py::object y, h_n, c_n;
};

Direct::Direct(const Shape& shape, std::shared_ptr<const Program> program, bool one_step,
               Tensors tensors, py::function record, std::shared_ptr<const Packed> packed)
    : shape_(shape),
      program_(std::move(program)),
      one_step_(one_step),
      tensors_(std::move(tensors)),
      record_(std::move(record)),
      packed_(std::move(packed)) {}

bool Direct::read(py::handle tensor, Sizes sizes, Inputs& in, Address& address) const {
  in.differentiable = in.differentiable || (in.grad_enabled && requires_grad(tensor));
  return tensors_.read_contiguous(tensor, in.shape.dtype, sizes, address);
}

CellFacts Direct::cell() const { return {shape_, active_kernels()}; }

bool Direct::read_input(Inputs& in) const {
  dlpack::Tensor x;
  if (!tensors_.read(in.x, x) || x.ndim != (one_step_ ? 2 : 3)) return false;
  const int last = x.ndim - 1;
  if (!read_dtype(x, in.shape.dtype) || x.shape[last] != shape_.features() || x.strides[last] != 1)
    return false;
  const int time = in.form.batch_first ? 1 : 0;
  in.shape.T = one_step_ ? 1 : x.shape[time];
  in.shape.B = one_step_ ? x.shape[0] : x.shape[1 - time];
  in.at.x = in.form.strided(x);
  in.differentiable = in.grad_enabled && requires_grad(in.x);
  return in.shape.T > 0 && in.shape.B > 0;
}

bool Direct::read_states(Inputs& in) const {
  if (in.hx.is_none()) return true;
  const Sizes of_h = in.form.state(in.shape, in.shape.out());
  if (!cell().has_cell_state) {
    in.h = py::reinterpret_borrow<py::object>(in.hx);
    return read(in.h, of_h, in, in.at.h0);
  }
  if (!PyTuple_CheckExact(in.hx.ptr()) || PyTuple_GET_SIZE(in.hx.ptr()) != 2) return false;
  in.h = py::reinterpret_borrow<py::object>(PyTuple_GET_ITEM(in.hx.ptr(), 0));
  in.c = py::reinterpret_borrow<py::object>(PyTuple_GET_ITEM(in.hx.ptr(), 1));
  return read(in.h, of_h, in, in.at.h0) &&
         read(in.c, in.form.state(in.shape, in.shape.state_stride(1)), in, in.at.c0);
}

bool Direct::read_weights(Inputs& in) const {
  if (packed_) {
    return packed_->kernels == &active_kernels() && in.shape.dtype == packed_->shape.dtype &&
           !in.differentiable;
  }
  const size_t count = in.weights.size();
  Addresses& weights = in.at.weights;
  weights.reserve(count);
  const bool all = for_each_weight(in.shape, cell().gates, [&](Sizes sizes) {
    if (weights.size() == count) return false;
    const py::object weight = in.weights[weights.size()];
    weights.push_back(0);
    return read(weight, sizes, in, weights.back());
  });
  return all && weights.size() == count;
}

bool Direct::make_outputs(Inputs& in, Outputs& out) const {
  const Shape& shape = in.shape;
  const bool has_cell_state = cell().has_cell_state;
  const int64_t width = shape.directions * shape.out();
  Address y = 0;
  out.y = tensors_.new_empty(shape.dtype, in.form.sequence(shape, width), y);
  in.at.y = in.form.contiguous(shape, width, y);
  if (one_step_) {
    out.h_n = out.y;
    in.at.h_n = y;
  } else {
    out.h_n = tensors_.new_empty(shape.dtype, in.form.state(shape, shape.out()), in.at.h_n);
  }
  if (has_cell_state)
    out.c_n =
        tensors_.new_empty(shape.dtype, in.form.state(shape, shape.state_stride(1)), in.at.c_n);
  return y && in.at.h_n && (in.at.c_n || !has_cell_state);
}

py::object Direct::record(const Inputs& in, Plan plan, py::object kept,
                          const py::tuple& outputs) const {
  std::vector<Recorded::Origin> origins;
  origins.reserve(3 + in.at.weights.size());
  origins.push_back({in.x.ptr(), std::get<0>(in.at.x), {}});
  for (const auto& [state, address] : {std::pair(in.h, in.at.h0), std::pair(in.c, in.at.c0)})
    origins.push_back({state.is_none() ? nullptr : state.ptr(), address, {}});
  for (size_t i = 0; i < in.at.weights.size(); ++i) {
    const py::object weight = in.weights[i];
    origins.push_back({weight.ptr(), in.at.weights[i], tensors_.storage_of_parameter(weight)});
  }
  Recorded recorded(std::move(plan), in.form, tensors_, std::move(origins));
  return record_(std::move(recorded), outputs, in.x, in.h, in.c, *in.weights, std::move(kept));
}

py::object Direct::as_returned(const py::tuple& outputs) const {
  const bool has_cell_state = cell().has_cell_state;
  if (one_step_ && !has_cell_state) return outputs[0];
  if (one_step_ || !has_cell_state) return outputs;
  return py::make_tuple(outputs[0], py::make_tuple(outputs[1], outputs[2]));
}

py::object Direct::call(py::handle x, py::handle hx, const py::sequence& weights, bool batch_first,
                        bool grad_enabled, int threads) const {
  Inputs in{x, hx, weights, grad_enabled, {one_step_, batch_first}, shape_};
  Outputs out;
  if (!read_input(in) || !read_states(in) || !read_weights(in) || !make_outputs(in, out))
    return py::none();
  const Shape& shape = in.shape;
  PlanOptions options;
  options.packed = packed_;
  options.save = in.differentiable;
  options.threads = threads;
  Plan plan(shape, Batch(shape.T, shape.B, {}, {}, false, nullptr), options, active_kernels());
  plan.program = program_;
  py::object kept;
  if (in.differentiable) {
    kept = tensors_.new_empty(shape.dtype, {kept_elements(plan)}, in.at.saved);
    if (!in.at.saved) return py::none();
  }
  run_forward(plan, in.at);

  py::list outputs;
  outputs.append(out.y);
  if (!one_step_) outputs.append(out.h_n);
  if (out.c_n) outputs.append(out.c_n);
  py::object returned = py::tuple(outputs);
  if (in.differentiable) returned = record(in, std::move(plan), std::move(kept), returned);
  return as_returned(returned);
}

}  // namespace fastrnn
