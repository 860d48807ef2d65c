#include "direct.h"

#include <utility>

#include "cuda/device.h"
#include "recorded.h"

namespace py = pybind11;

namespace fastrnn::cuda {
namespace {

// Layers from the first to the last. What is enqueued on a stream may use memory that has been
// given back by then: torch lends it again to what comes later on the same stream.
class ForwardPass {
 public:
  ForwardPass(const Stack& stack, PlainCall& call, const py::sequence& weights, py::object kept)
      : stack_(stack),
        torch_(stack.torch),
        call_(call),
        weights_(weights),
        shape_(call.shape),
        rows_(shape_.T * shape_.B),
        item_(bytes_of(call.memory.element)),
        sums_{sums_of(call.memory.element), call.memory.device},
        pieces_(stack.pieces_of(call.memory.element)),
        block_(std::move(kept)),
        kept_{call.at.saved, pieces_.room(rows_)} {}

  bool run() {
    if (!make_states()) return false;
    const Stream stream = torch_.stream(call_.memory.device);
    const Precision precision = torch_.precision(call_.memory.element);
    const Sequence sequence(shape_.T, shape_.B, {}, nullptr, {});
    py::object x = call_.form.one_step ? call_.x : torch_.as_rows(call_.x, shape_.I);
    for (int64_t layer = 0; layer < shape_.layers; ++layer) {
      ForwardLayer now;
      now.shape = stack_.of_layer();
      now.save = saves();
      now.directions = static_cast<int>(shape_.directions);
      if (!place_outputs(layer)) return false;
      for (int d = 0; d < now.directions; ++d)
        if (!place_direction(layer, d, x, now.of[d])) return false;
      {
        py::gil_scoped_release release;
        fastrnn::cuda::run(precision, sequence, now, stream);
      }
      if (layer + 1 < shape_.layers) x = outputs_of(layer);
    }
    deliver(stream);
    return true;
  }

 private:
  bool saves() const { return call_.at.saved != 0; }

  py::object make(Memory memory, Sizes sizes, Address& address) const {
    return call_.tensors.new_empty(memory, sizes, address);
  }

  // Those between the steps, and cell states in the precision of sums
  bool make_states() {
    if (shape_.T > 1) {
      const Sizes sizes = {shape_.directions * 2, shape_.B, shape_.out()};
      between_tensor_ = make(call_.memory, sizes, between_);
      if (!between_) return false;
    }
    c0_ = call_.at.c0;
    c_ = call_.at.c_n;
    if (!call_.cell.has_cell_state || sums_.element == call_.memory.element) return true;
    if (c0_) {
      c0_tensor_ = torch_.with(call_.c, sums_.element);
      if (!call_.tensors.read_contiguous(c0_tensor_, sums_, call_.form.state(shape_, shape_.H),
                                         c0_))
        return false;
    }
    c_tensor_ = make(sums_, call_.form.state(shape_, shape_.H), c_);
    return c_ != 0;
  }

  // Where a layer's outputs go: to the caller, if they need not be kept
  bool place_outputs(int64_t layer) {
    y_ = kept_.at(pieces_.outputs, layer);
    if (y_) return true;
    if (layer + 1 == shape_.layers) {
      y_ = std::get<0>(call_.at.y);
      return true;
    }
    reached_ = make(call_.memory, {rows_, shape_.directions * shape_.out()}, y_);
    return y_ != 0;
  }

  py::object outputs_of(int64_t layer) const {
    if (!saves()) return reached_;
    const int64_t first = kept_.room * pieces_.outputs[layer] / item_;
    return torch_.piece(block_, sums_.element, call_.memory.element, rows_,
                        shape_.directions * shape_.out(), first);
  }

  // The input's share of the gates, which forward makes what backward needs
  bool multiply_input(int64_t index, const py::object& x, const py::object& w_ih, Address& address,
                      int d) {
    const int64_t columns = stack_.gate_columns();
    address = kept_.at(pieces_.gates, index);
    py::object& gates = gates_[d];
    if (address) {
      const int64_t first = kept_.room * pieces_.gates[index] / bytes_of(sums_.element);
      gates = torch_.piece(block_, sums_.element, sums_.element, rows_, columns, first);
    } else {
      gates = make(sums_, {rows_, columns}, address);
      if (!address) return false;
    }
    const py::object transposed = torch_.transposed(w_ih);
    if (sums_.element == call_.memory.element)
      torch_.product(x, transposed, gates);
    else
      torch_.multiply(x, transposed, gates);
    return true;
  }

  bool place_direction(int64_t layer, int d, const py::object& x, Forward& to) {
    const int64_t index = layer * shape_.directions + d;
    const DirectionWeights places(shape_, index);
    Address gates = 0, raw = kept_.at(pieces_.raw, index);
    if (!multiply_input(index, x, weights_[places.w_ih], gates, d)) return false;
    if (!raw && shape_.P > 0) {
      raw_[d] = make(call_.memory, {rows_, shape_.H}, raw);
      if (!raw) return false;
    }
    const Addresses& weights = call_.at.weights;
    const int64_t of_h = index * shape_.B * shape_.out() * item_;
    const int64_t of_c = index * shape_.B * shape_.H * bytes_of(sums_.element);
    to.w_hh = at<void>(weights[places.w_hh]);
    if (places.b_ih) to.b_ih = at<void>(weights[places.b_ih]);
    if (places.b_hh) to.b_hh = at<void>(weights[places.b_hh]);
    if (places.w_hr) to.w_hr = at<void>(weights[places.w_hr]);
    if (call_.at.h0) to.h0 = at<void>(call_.at.h0 + of_h);
    if (between_) to.h = at<void>(between_ + d * 2 * shape_.B * shape_.out() * item_);
    if (!call_.form.one_step) to.h_n = at<void>(call_.at.h_n + of_h);
    if (c0_) to.c0 = at<void>(c0_ + of_c);
    if (c_) to.c = at<void>(c_ + of_c);
    to.gates = steps(stack_.gate_columns(), gates);
    to.extra = steps(shape_.H, kept_.at(pieces_.extra, index));
    to.cell = steps(shape_.H, kept_.at(pieces_.cell, index));
    to.raw = steps(shape_.H, raw);
    to.y = steps(shape_.directions * shape_.out(), y_ + d * shape_.out() * item_);
    return true;
  }

  Strided<void> steps(int64_t width, Address address) const {
    return steps_at(call_.form, shape_, width, address);
  }

  // What is kept stays as it is when the caller changes y.
  void deliver(Stream stream) const {
    const Address y = std::get<0>(call_.at.y);
    if (y_ != y)
      copy_on_device(at<void>(y), at<void>(y_), rows_ * shape_.directions * shape_.out() * item_,
                     stream);
    if (c_tensor_) torch_.copy(call_.c_n, c_tensor_);
  }

  const Stack& stack_;
  const Operations& torch_;
  PlainCall& call_;
  const py::sequence& weights_;
  const Shape& shape_;
  const int64_t rows_, item_;
  const Memory sums_;
  const Pieces& pieces_;
  const py::object block_;
  const Kept kept_;

  py::object between_tensor_, c0_tensor_, c_tensor_, reached_, gates_[2], raw_[2];
  Address between_ = 0, c0_ = 0, c_ = 0, y_ = 0;
};

}  // namespace

Direct::Direct(std::shared_ptr<const Stack> stack, bool one_step, Tensors tensors,
               py::function record)
    : stack_(std::move(stack)),
      one_step_(one_step),
      tensors_(std::move(tensors)),
      record_(std::move(record)) {}

// More than that is computed in several spans of steps.
bool Direct::fits(const PlainCall& call, int64_t room) const {
  const int64_t bytes = bytes_of(sums_of(call.memory.element));
  return call.shape.T == 1 || call.shape.T * call.shape.B * stack_->gate_columns() * bytes <= room;
}

py::object Direct::call(py::handle x, py::handle hx, const py::sequence& weights, bool batch_first,
                        bool grad_enabled, int64_t room) const {
  const CellFacts cell = {stack_->layout.gates, stack_->shape.cell == Cell::kLstm};
  PlainCall call(tensors_, stack_->shape, cell, {one_step_, batch_first}, grad_enabled);
  if (!call.read_input(x) || !call.is_contiguous || !call.read_states(hx) ||
      !call.read_weights(weights) || !(call.differentiable || fits(call, room)) ||
      !call.make_outputs(false))
    return py::none();
  py::object kept;
  if (call.differentiable) {
    const int64_t rows = call.shape.T * call.shape.B;
    const Memory memory = {sums_of(call.memory.element), call.memory.device};
    kept = tensors_.new_empty(memory, {kept_elements(*stack_, call.memory.element, rows)},
                              call.at.saved);
    if (!call.at.saved) return py::none();
  }
  {
    const WithoutGradients guard(stack_->torch, grad_enabled);
    if (!ForwardPass(*stack_, call, weights, kept).run()) return py::none();
  }
  py::object outputs = call.outputs();
  if (call.differentiable) {
    Recorded recorded(stack_, call, call.origins(weights));
    outputs = record_(std::move(recorded), outputs, x, call.h, call.c, *weights, std::move(kept));
  }
  return as_returned(outputs, one_step_, cell.has_cell_state);
}

}  // namespace fastrnn::cuda
