#include "recorded.h"

namespace py = pybind11;

namespace fastrnn::cuda {

int64_t kept_elements(const Stack& stack, Element element, int64_t rows) {
  const Pieces& pieces = stack.pieces_of(element);
  return pieces.room(rows) * pieces.row_bytes / bytes_of(sums_of(element));
}

// Layers from the last to the lowest that anyone asks about
class Recorded::BackwardPass {
 public:
  BackwardPass(const Recorded& of, const py::sequence& needed, Pullback& call)
      : of_(of),
        stack_(*of.stack_),
        torch_(stack_.torch),
        call_(call),
        needed_(needed),
        shape_(of.shape),
        rows_(shape_.T * shape_.B),
        item_(bytes_of(of.memory.element)),
        sums_{sums_of(of.memory.element), of.memory.device},
        pieces_(stack_.pieces_of(of.memory.element)),
        kept_{call.at.saved, pieces_.room(rows_)} {}

  bool run() {
    for (size_t place = 0; place < call_.gradients.size(); ++place)
      call_.gradients[place] = py::none();
    if (!read_states() || !make_states()) return false;
    x_ = of_.form.one_step ? tensor(kX) : torch_.as_rows(tensor(kX), shape_.I);
    stream_ = torch_.stream(of_.memory.device);
    above_ = call_.at.d_y;
    const int64_t lowest = lowest_layer();
    for (int64_t layer = shape_.layers - 1; layer >= lowest; --layer) {
      if (!run_layer(layer) || !input_gradient(layer, lowest)) return false;
      for (int d = 0; d < shape_.directions; ++d) weight_gradients(layer, d);
    }
    deliver(d_h_, kH);
    deliver(d_c_, kC);
    return true;
  }

 private:
  // Places among what is saved; the weights follow.
  enum Place : size_t { kX, kH, kC, kWeights };

  // What one direction of a layer leaves for torch's products: rows of all steps
  struct Side {
    py::object d_pre, h_prev, d_projected;
    Address d_pre_at = 0, h_prev_at = 0, d_projected_at = 0;
  };
  // Gradients of states, on their way from step to step
  struct Running {
    py::object tensor;
    Address address = 0;
    bool of_all = false;  // directions of all layers, not of one
  };

  bool is_needed(size_t place) const { return needed_[place].ptr() == Py_True; }
  const py::object& tensor(size_t place) const { return call_.alive[place]; }
  const py::object& weight(size_t place) const { return tensor(kWeights + place); }
  const py::object& kept_tensor() const { return tensor(call_.gradients.size()); }
  bool has_cell_state() const { return of_.cell.has_cell_state; }

  py::object make(Memory memory, Sizes sizes, Address& address) const {
    return of_.tensors.new_empty(memory, sizes, address);
  }

  // In the precision of sums
  bool read_state(Address& address, size_t place, int64_t width) {
    if (!address || sums_.element == of_.memory.element) return true;
    cast_.push_back(torch_.with(call_.alive[place], sums_.element));
    return of_.tensors.read_contiguous(cast_.back(), sums_, of_.form.state(shape_, width), address);
  }

  bool read_states() {
    size_t place = call_.gradients.size() + 2;  // past what was kept and the gradient of y
    if (!read_state(call_.at.c0, kC, shape_.H)) return false;
    if (!of_.form.one_step && !read_state(call_.at.d_h_n, place++, shape_.out())) return false;
    return !has_cell_state() || read_state(call_.at.d_c_n, place, shape_.H);
  }

  bool make_running(Running& running, size_t place, int64_t width) {
    running.of_all = is_needed(place);
    if (running.of_all && sums_.element == of_.memory.element) {
      running.tensor = make(sums_, of_.form.state(shape_, width), running.address);
      call_.gradients[place] = running.tensor;
    } else if (running.of_all) {
      running.tensor = make(sums_, of_.form.state(shape_, width), running.address);
      Address wanted = 0;
      call_.gradients[place] = make(of_.memory, of_.form.state(shape_, width), wanted);
      if (!wanted) return false;
    } else {
      running.tensor = make(sums_, {shape_.directions, shape_.B, width}, running.address);
    }
    return running.address != 0;
  }

  bool make_states() {
    return make_running(d_h_, kH, shape_.out()) &&
           (!has_cell_state() || make_running(d_c_, kC, shape_.H));
  }

  void deliver(const Running& running, size_t place) const {
    const py::object wanted = call_.gradients[place];
    if (running.of_all && !wanted.is(running.tensor)) torch_.copy(wanted, running.tensor);
  }

  int64_t lowest_layer() const {
    size_t place = 0;
    while (!is_needed(place)) ++place;
    if (place < kWeights) return 0;
    const int64_t of_layer = shape_.directions * Present(shape_).count();
    return static_cast<int64_t>(place - kWeights) / of_layer;
  }

  // The rows of a weight that stand before those of slot `first`
  int64_t rows_before(int first) const { return stack_.layout.first_gate(first) * shape_.H; }
  py::object turned(const py::object& rows, int64_t by) const {
    return by ? torch_.rolled(rows, by) : rows;
  }

  // Transposed, its gates in the order of the slots
  py::object recurrent_weights(const py::object& w_hh) const {
    const py::object rows = turned(w_hh, -rows_before(stack_.layout.hidden_slot));
    return torch_.contiguous(torch_.transposed(rows));
  }

  bool transpose(const py::object& matrix, Sizes sizes, const void*& to) {
    Address address = 0;
    held_.push_back(matrix);
    if (!of_.tensors.read_contiguous(matrix, of_.memory, sizes, address)) return false;
    to = at<void>(address);
    return true;
  }

  bool make_side(int64_t index, Side& side) const {
    const int64_t K = shape_.out(), columns = stack_.layout.slots * shape_.H;
    const DirectionWeights places(shape_, index);
    side = {};
    side.d_pre = make(of_.memory, {rows_, columns}, side.d_pre_at);
    const bool with_h = is_needed(kWeights + places.w_hh);
    if (with_h) side.h_prev = make(of_.memory, {rows_, K}, side.h_prev_at);
    if (shape_.P > 0) side.d_projected = make(of_.memory, {rows_, K}, side.d_projected_at);
    return side.d_pre_at && (side.h_prev_at || !with_h) && (side.d_projected_at || shape_.P == 0);
  }

  bool run_layer(int64_t layer) {
    BackwardLayer now;
    now.shape = stack_.of_layer();
    now.initial = is_needed(kH) || is_needed(kC);
    now.directions = static_cast<int>(shape_.directions);
    held_.clear();
    for (int d = 0; d < now.directions; ++d)
      if (!place_direction(layer, d, now.of[d])) return false;
    const Sequence sequence(shape_.T, shape_.B, {}, nullptr, {});
    const Precision precision = torch_.precision(of_.memory.element);
    py::gil_scoped_release release;
    fastrnn::cuda::run(precision, sequence, now, stream_);
    return true;
  }

  bool place_direction(int64_t layer, int d, Backward& to) {
    const int64_t index = layer * shape_.directions + d, K = shape_.out(), H = shape_.H;
    const DirectionWeights places(shape_, index);
    Side& side = sides_[d];
    if (!make_side(index, side) ||
        !transpose(recurrent_weights(weight(places.w_hh)), {K, stack_.gate_columns()}, to.w_hh))
      return false;
    if (places.w_hr &&
        !transpose(torch_.contiguous(torch_.transposed(weight(places.w_hr))), {H, K}, to.w_hr))
      return false;
    const int64_t of_sums = bytes_of(sums_.element);
    const auto state = [&](Address address, int64_t number, int64_t width, int64_t bytes) {
      return at<void>(address ? address + number * shape_.B * width * bytes : 0);
    };
    to.h0 = state(call_.at.h0, index, K, item_);
    to.c0 = state(call_.at.c0, index, H, of_sums);
    to.d_h_n = state(call_.at.d_h_n, index, K, of_sums);
    to.d_h = state(d_h_.address, d_h_.of_all ? index : d, K, of_sums);
    to.d_c_n = state(call_.at.d_c_n, index, H, of_sums);
    to.d_c = state(d_c_.address, d_c_.of_all ? index : d, H, of_sums);
    to.gates = steps(stack_.gate_columns(), kept_.at(pieces_.gates, index));
    to.extra = steps(H, kept_.at(pieces_.extra, index));
    to.cell = steps(H, kept_.at(pieces_.cell, index));
    to.y = steps(shape_.directions * K, kept_.at(pieces_.outputs, layer) + d * K * item_);
    to.d_y = steps_at(above_);
    if (to.d_y.base) to.d_y.base = static_cast<char*>(to.d_y.base) + d * K * item_;
    to.d_pre = steps(stack_.layout.slots * H, side.d_pre_at);
    to.d_projected = steps(K, side.d_projected_at);
    to.h_prev = steps(K, side.h_prev_at);
    return true;
  }

  Strided<void> steps(int64_t width, Address address) const {
    return steps_at(of_.form, shape_, width, address);
  }

  // Those of some slots
  py::object columns(const py::object& d_pre, int slot, int count) const {
    if (count == stack_.layout.slots) return d_pre;
    return torch_.part(d_pre, 1, slot * shape_.H, count * shape_.H);
  }

  // Of a layer's input, if anyone asks for it: of the layer below, or of the call
  bool input_gradient(int64_t layer, int64_t lowest) {
    if (layer == lowest && !(layer == 0 && is_needed(kX))) return true;
    py::object d_x;
    Address address = 0;
    if (layer > lowest) {
      d_x = make(of_.memory, {rows_, shape_.in(layer)}, address);
      above_ = of_.form.contiguous(shape_, shape_.in(layer), address);
      above_tensor_ = d_x;
    } else {
      d_x = make(of_.memory, of_.form.sequence(shape_, shape_.I), address);
      call_.gradients[kX] = d_x;
      if (!of_.form.one_step) d_x = torch_.as_rows(d_x, shape_.I);
    }
    if (!address) return false;
    for (int d = 0; d < shape_.directions; ++d) {
      const DirectionWeights places(shape_, layer * shape_.directions + d);
      const py::object d_gates =
          columns(sides_[d].d_pre, stack_.layout.input_slot, stack_.layout.gates);
      if (d == 0)
        torch_.product(d_gates, weight(places.w_ih), d_x);
      else
        torch_.add_product(d_x, d_gates, weight(places.w_ih));
    }
    return true;
  }

  py::object piece(const std::vector<int64_t>& offsets, int64_t index, int64_t width) const {
    return torch_.piece(kept_tensor(), sums_.element, of_.memory.element, rows_, width,
                        kept_.room * offsets[index] / item_);
  }

  void weight_gradients(int64_t layer, int d) {
    const int64_t index = layer * shape_.directions + d;
    const DirectionWeights places(shape_, index);
    const Side& side = sides_[d];
    if (d == 0) input_ = {};
    if (!input_ && is_needed(kWeights + places.w_ih))
      input_ = layer == 0 ? x_ : piece(pieces_.outputs, layer - 1, shape_.in(layer));
    const CellLayout& layout = stack_.layout;
    weight_gradient(places.w_ih, places.b_ih, layout.input_slot, side, input_, {});
    py::object d_b;  // of both biases, if they are the same slots'
    if (layout.input_slot == layout.hidden_slot && places.b_ih && is_needed(kWeights + places.b_ih))
      d_b = call_.gradients[kWeights + places.b_ih];
    weight_gradient(places.w_hh, places.b_hh, layout.hidden_slot, side, side.h_prev, d_b);
    if (places.w_hr && is_needed(kWeights + places.w_hr))
      call_.gradients[kWeights + places.w_hr] =
          torch_.product(torch_.transposed(side.d_projected), piece(pieces_.raw, index, shape_.H));
  }

  // operand: what the slots from `first` on have multiplied the weight with
  void weight_gradient(size_t of_w, size_t of_b, int first, const Side& side,
                       const py::object& operand, const py::object& known_d_b) {
    const py::object d_gates = columns(side.d_pre, first, stack_.layout.gates);
    const auto in_order = [&](const py::object& gradient) {
      return turned(gradient, rows_before(first));
    };
    if (is_needed(kWeights + of_w))
      call_.gradients[kWeights + of_w] =
          in_order(torch_.product(torch_.transposed(d_gates), operand));
    if (of_b && is_needed(kWeights + of_b))
      call_.gradients[kWeights + of_b] =
          known_d_b ? torch_.copied(known_d_b) : in_order(torch_.sum_of_rows(d_gates));
  }

  const Recorded& of_;
  const Stack& stack_;
  const Operations& torch_;
  Pullback& call_;
  const py::sequence& needed_;
  const Shape& shape_;
  const int64_t rows_, item_;
  const Memory sums_;
  const Pieces& pieces_;
  const Kept kept_;

  Stream stream_;
  Running d_h_, d_c_;
  Side sides_[2];
  fastrnn::Strided above_;  // the gradient of what the layer puts out
  py::object above_tensor_, x_, input_;
  std::vector<py::object> cast_, held_;
};

py::object Recorded::backward(const py::tuple& saved, const py::tuple& d_outputs,
                              const py::sequence& needed) const {
  Pullback call(saved.size() - 1);
  call.alive.reserve(saved.size() + d_outputs.size());
  const Memory sums = {sums_of(memory.element), memory.device};
  const int64_t kept = kept_elements(*stack_, memory.element, shape.T * shape.B);
  Address x = 0;  // contiguous, whatever hooks on saved tensors have made of it
  if (!read_saved(saved, sums, kept, call) || !read_gradients(d_outputs, call) ||
      !tensors.copy_contiguous(call.alive[0], memory, form.sequence(shape, shape.I), x) ||
      !BackwardPass(*this, needed, call).run())
    return py::none();
  return call.gradients;
}

}  // namespace fastrnn::cuda
