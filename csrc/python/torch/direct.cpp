#include "direct.h"

#include <utility>

#include "engine/forward/freeze.h"
#include "engine/kernels/dispatch.h"
#include "python/scratch.h"

namespace py = pybind11;

namespace fastrnn {

Direct::Direct(const Shape& shape, std::shared_ptr<const Program> program, bool one_step,
               Tensors tensors, py::function record, py::function keep, py::object draw,
               std::shared_ptr<const Packed> packed, Format format)
    : shape_(shape),
      program_(std::move(program)),
      one_step_(one_step),
      tensors_(std::move(tensors)),
      record_(std::move(record)),
      keep_(std::move(keep)),
      draw_(std::move(draw)),
      packed_(std::move(packed)),
      format_(format) {}

CellFacts Direct::cell() const {
  if (program_) return {program_->gates, program_->states > 1};
  const CellKernels<float>& cell = active_kernels().f32.cells[static_cast<int>(shape_.cell)];
  return {cell.gates, cell.has_cell_state()};
}

bool Direct::has_weights(PlainCall& call, const py::sequence& weights) const {
  const bool plain = call.at.source == Source::kPlain;
  if (!plain && call.shape.dtype != DType::kFloat32) return false;
  if (!packed_) return call.read_weights(weights) && (plain || !call.differentiable);
  return packed_->kernels == &active_kernels() && call.shape.dtype == packed_->shape.dtype &&
         !call.differentiable;
}

// Without an address where torch makes it elsewhere
py::object Direct::new_kept(const Plan& plan, PlainCall& call) const {
  const int64_t elements = kept_elements(plan);
  if (plan.saved_bytes < kWorthLeaving)
    return tensors_.new_empty(call.memory, {elements}, call.at.saved);
  py::object kept = keep_(elements, tensors_.dtype(call.memory.element));
  tensors_.read_contiguous(kept, call.memory, {elements}, call.at.saved);
  return kept;
}

// Of a call that goes on: the generator has moved then.
py::tuple Direct::new_masks(PlainCall& call) const {
  if (draw_.is_none()) return py::tuple();
  const Sizes sizes = call.ragged.mask(call.shape);
  py::tuple rows(sizes.count() - 1);
  for (int i = 0; i + 1 < sizes.count(); ++i) rows[i] = sizes.begin()[i];
  const py::tuple masks(draw_(rows, call.x));
  if (!call.read_masks(masks)) throw py::type_error("dropout masks: expected plain tensors");
  return masks;
}

// float32 or float64; false for any other
static bool read_dtype(Element element, DType& dtype) {
  dtype = static_cast<DType>(element);
  return element == element_of(DType::kFloat32) || element == element_of(DType::kFloat64);
}

bool Direct::read_batch(PlainCall& call, py::handle x, const Ragged& ragged) const {
  const bool packed = !ragged.batch_sizes.is_none();
  if (packed && !call.read_packed(ragged.batch_sizes, ragged.sorted_indices)) return false;
  if (!call.read_input(x) || !read_dtype(call.memory.element, call.shape.dtype)) return false;
  return (ragged.lengths.is_none() || call.read_lengths(ragged.lengths)) &&
         (ragged.resets.is_none() || call.read_resets(ragged.resets));
}

py::object Direct::call(py::handle x, py::handle hx, const py::sequence& weights, bool batch_first,
                        bool grad_enabled, int threads, bool bfloat16, const Ragged& ragged) const {
  PlainCall call(tensors_, shape_, cell(), {one_step_, batch_first}, grad_enabled);
  if (bfloat16) call.at.source = Source::kBfloat16;
  if (!read_batch(call, x, ragged) || !call.read_states(hx) || !has_weights(call, weights) ||
      !call.make_outputs(true))
    return py::none();
  const Shape& shape = call.shape;
  PlanOptions options;
  options.packed = packed_;
  options.format = format_;
  options.save = call.differentiable;
  options.threads = threads;
  options.dropout = !draw_.is_none();
  Plan plan(shape, call.ragged.batch(shape, call.form.packed_rows > 0), options, active_kernels());
  plan.program = program_;
  py::object kept;
  if (call.differentiable) {
    kept = new_kept(plan, call);
    if (!call.at.saved) return py::none();
  }
  const py::tuple masks = new_masks(call);
  run_forward(plan, call.at);

  py::object outputs = call.outputs();
  if (call.differentiable) {
    Recorded recorded(std::move(plan), call, call.origins(weights));
    outputs =
        record_(std::move(recorded), outputs, x, call.h, call.c, *weights, *masks, std::move(kept));
  }
  return as_returned(outputs, one_step_, call.cell.has_cell_state);
}

}  // namespace fastrnn
