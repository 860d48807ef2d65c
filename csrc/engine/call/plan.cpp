#include "plan.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "engine/backward/backward.h"
#include "engine/forward/forward.h"
#include "engine/forward/freeze.h"
#include "engine/schedule/decide.h"

namespace fastrnn {

namespace {

template <class Real>
void measure(Plan& plan) {
  Arena saved(nullptr);
  Saved<Real> layout(plan, saved);
  plan.saved_bytes = plan.save ? saved.bytes() : 0;
  plan.forward_bytes = forward_workspace_bytes<Real>(plan);
  plan.backward_bytes = plan.save ? backward_workspace_bytes<Real>(plan) : 0;
}

}  // namespace

Plan::Plan(const Shape& shape, Batch batch, const PlanOptions& options, const KernelTable& kernels)
    : shape(shape),
      // A single step would round its weights for one use: reading them takes less time.
      format(shape.T > 1 ? options.format : Format::kPlain),
      batch(std::move(batch)),
      save(options.save),
      dropout(options.dropout),
      states(options.states),
      kernels(&kernels) {
  if (options.packed) {
    packed = options.packed;
    format = packed->format;
  }
  with_dtype(shape.dtype, [&](auto zero) {
    const auto& formats = kernels_in<decltype(zero)>(*this->kernels).formats;
    if (!formats[static_cast<int>(format)].bytes)
      throw std::invalid_argument("format: expected one that the instruction set has");
  });
  decide_layout(*this, options.threads);
  with_dtype(shape.dtype, [&](auto zero) { measure<decltype(zero)>(*this); });
}

namespace {

// A program as a cell
template <class Real>
CellKernels<Real> cell_of(const Program& program, bool save, const Kernels<Real>& kernels,
                          const WeightFormat<Real>& format) {
  CellKernels<Real> cell = {};
  cell.gates = program.gates;
  cell.slots = program.slots;
  cell.input = program.input;
  cell.gate_of_slot = program.gate_of_slot.data();
  cell.states = program.states;
  cell.saved = program.saved;
  cell.kept = program.kept;
  cell.reads_previous_hidden = program.sets_hidden_gradient;
  cell.meets = program.meets;
  cell.unit_width = kernels.column_width;
  cell.tallest = kernels.tallest;
  cell.by_slot = true;
  cell.forward_row = kernels.program_forward_row;
  cell.project = format.product;
  cell.products = static_cast<int>(program.products.size());
  std::copy(program.products.begin(), program.products.end(), cell.product);
  cell.forward = format.program_forward;
  cell.forward_stages = program.forward_pass(save).products();
  cell.backward = kernels.program_backward;
  cell.backward_stages = program.backward.products();
  return cell;
}

template <class Real>
CellKernels<Real> cell_of(const Shape& shape, Format format, bool save,
                          const Kernels<Real>& kernels) {
  const WeightFormat<Real>& own = kernels.formats[static_cast<int>(format)];
  if (shape.program) return cell_of(*shape.program, save, kernels, own);
  CellKernels<Real> cell = kernels.cells[static_cast<int>(shape.cell)];
  if (format == Format::kPlain) return cell;
  const auto& steps = own.cells[static_cast<int>(shape.cell)];
  cell.project = steps.project;
  cell.forward = steps.forward;
  return cell;
}

// A row's width so that rows one after the other begin in all sets of a cache. Where a product
// reads one of many slots, an even number of lines would leave it a few sets alone.
template <class Real>
int64_t spread(int64_t width) {
  const int64_t line = 64 / static_cast<int64_t>(sizeof(Real)), lines = width / line;
  return lines > 2 && lines % 2 == 0 ? width + line : width;
}

}  // namespace

template <class Real>
Panels<Real>::Panels(const Shape& shape, const KernelTable& table, Format format, bool save)
    : kernels(kernels_in<Real>(table)),
      format(kernels.formats[static_cast<int>(format)]),
      cell(cell_of(shape, format, save, kernels)),
      unit(cell.unit_width),
      column(kernels.column_width),
      gates((shape.H + unit - 1) / unit),
      width(cell.slots * unit),
      d_width(shape.program ? spread<Real>(width) : width),
      kept_width((save ? cell.saved : cell.kept) * unit),
      gate_width(cell.input.count * unit),
      units(gates * unit),
      last(shape.H - (gates - 1) * unit),
      pre(gates * gate_width),
      first_held(shape.program ? shape.program->first_held() : cell.states) {
  if (shape.heads == 1) return;
  const int64_t of_head = shape.of_head();
  for (int64_t first = 0; first < shape.H; first += unit) {
    const int64_t last = std::min(first + unit, shape.H) - 1;
    met = std::max(met, (last / of_head - first / of_head + 1) * of_head);
  }
}

template <class Real>
Range Panels<Real>::product_panels(const Shape& shape, int64_t column_panel) const {
  if (shape.heads == 1) return {0, gates};
  const int64_t of_head = shape.of_head(), first = column_panel * column;
  const int64_t last = std::min(first + column, shape.H) - 1;
  return {first / of_head * of_head / unit, ((last / of_head + 1) * of_head + unit - 1) / unit};
}

template <class Real>
int64_t Panels<Real>::product_rows(const Shape& shape, int product) const {
  if (shape.heads == 1) return cell.product[product].count * shape.H;
  int64_t most = 0;
  for (int64_t i = 0; i < gates; ++i) {
    const Range met = product_panels(shape, i);
    most = std::max(most, met.end - met.begin);
  }
  return most * product_width(product);
}

template <class Real>
Saved<Real>::Saved(const Plan& plan, Arena& arena) {
  const Panels<Real> panels(plan);
  const Shape& shape = plan.shape;
  const int64_t rows = plan.batch.rows();
  for (int64_t i = 0; i < shape.layers * shape.directions; ++i) {
    Direction direction;
    if (panels.cell.saved)
      direction.gates = arena.take<Real>(rows * panels.gates * panels.kept_width);
    for (int s = 1; s < panels.first_held; ++s)
      direction.states[s] = arena.take<Real>(rows * panels.units);
    for (int i = 1; i < panels.cell.products; ++i)
      direction.operands[i] = arena.take<Real>(rows * shape.H);
    if (shape.P > 0) direction.raw = arena.take<Real>(rows * shape.H);
    directions.push_back(direction);
  }
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    outputs.push_back(arena.take<Real>(rows * shape.directions * shape.out()));
    const bool drops = plan.dropout && layer + 1 < shape.layers;
    dropped.push_back(drops ? arena.take<Real>(rows * shape.directions * shape.out())
                            : outputs.back());
  }
}

template struct Panels<float>;
template struct Panels<double>;
template struct Saved<float>;
template struct Saved<double>;

}  // namespace fastrnn
