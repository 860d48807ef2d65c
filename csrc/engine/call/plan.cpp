#include "plan.h"

#include <algorithm>
#include <utility>

#include "engine/backward/backward.h"
#include "engine/forward/forward.h"
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
      batch(std::move(batch)),
      save(options.save),
      dropout(options.dropout),
      states(options.states),
      kernels(&kernels) {
  decide_layout(*this, options.threads);
  with_dtype(shape.dtype, [&](auto zero) { measure<decltype(zero)>(*this); });
}

template <class Real>
Panels<Real>::Panels(const Plan& plan)
    : kernels(kernels_in<Real>(*plan.kernels)),
      cell(kernels.cells[static_cast<int>(plan.shape.cell)]),
      unit(cell.unit_width),
      column(kernels.column_width),
      gates((plan.shape.H + unit - 1) / unit),
      width(cell.slots * unit),
      gate_width(cell.gates * unit),
      units(gates * unit),
      last(plan.shape.H - (gates - 1) * unit),
      pre(gates * gate_width) {}

template <class Real>
void Panels<Real>::pack_peepholes(const Shape& shape, const Real* w_ch, Range mine,
                                  Real* to) const {
  to += mine.begin * width;
  for (int64_t panel = mine.begin; panel < mine.end; ++panel) {
    for (int s = 0; s < cell.slots; ++s, to += unit) {
      const int64_t block = shape.variant.peephole[s];
      const int64_t first = panel * unit;
      const int64_t count = block < 0 ? 0 : std::min(unit, shape.H - first);
      if (count > 0) std::copy_n(w_ch + block * shape.H + first, count, to);
      std::fill(to + count, to + unit, Real{0});
    }
  }
}

template <class Real>
Saved<Real>::Saved(const Plan& plan, Arena& arena) {
  const Panels<Real> panels(plan);
  const Shape& shape = plan.shape;
  const int64_t rows = plan.batch.rows();
  for (int64_t i = 0; i < shape.layers * shape.directions; ++i) {
    Direction direction;
    if (panels.cell.saves_gates)
      direction.gates = arena.take<Real>(rows * panels.gates * panels.width);
    for (int s = 1; s < panels.cell.states; ++s)
      direction.states[s] = arena.take<Real>(rows * panels.units);
    for (int i = 1; i < panels.cell.stages; ++i)
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
