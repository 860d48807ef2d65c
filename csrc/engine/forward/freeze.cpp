#include "freeze.h"

#include <stdexcept>
#include <utility>

namespace fastrnn {
namespace {

template <class Real>
std::vector<PackedDirection<Real>> lay_out(const Shape& shape, const Panels<Real>& panels,
                                           Arena& arena) {
  std::vector<PackedDirection<Real>> all;
  const bool once = false;
  for (int64_t i = 0; i < shape.layers * shape.directions; ++i) {
    const int64_t in = shape.in(i / shape.directions);
    all.emplace_back(shape, panels, in, once, arena);
    if (shape.program) all.back().vectors = arena.take<Real>(shape.program->vectors * shape.H);
  }
  return all;
}

// Brings the weights of a direction into a format, a panel at a time by way of plain numbers.
template <class Real>
class Freezing {
 public:
  Freezing(const Shape& shape, const Panels<Real>& panels) : shape_(shape), panels_(panels) {
    int64_t most = panels.column * shape.H;
    most = std::max(most, panels.gate_width * shape.widest_in());
    for (int i = 0; i < panels.cell.products; ++i)
      most = std::max(most, panels.product_width(i) * panels.panel_length(shape, i));
    plain_.resize(most);
  }

  void freeze(const Weights<const Real>& weights, int64_t in, const PackedDirection<Real>& to) {
    const DirectionPacking<Real> packing(shape_, panels_, weights, in);
    const CellKernels<Real>& cell = panels_.cell;
    for (int64_t panel = 0; panel < panels_.gates; ++panel) {
      const Range one = {panel, panel + 1};
      packing.pack_w_ih(one, plain_.data(), in * panels_.unit);
      convert(in, cell.input, to.w_ih + panel * panels_.input_panel(in),
              panels_.gates * panels_.input_panel(in));
      for (int i = 0; i < cell.products; ++i) {
        const int64_t K = panels_.panel_length(shape_, i), bytes = panels_.product_panel(shape_, i);
        if (cell.product[i].count > 0) packing.pack_w_hh(i, one, plain_.data(), K * panels_.unit);
        convert(K, cell.product[i], to.w_hh[i] + panel * bytes, panels_.gates * bytes);
      }
    }
    for (int64_t panel = 0; shape_.P && panel < panels_.columns(shape_.P); ++panel) {
      packing.pack_w_hr({panel, panel + 1}, plain_.data());
      panels_.format.pack(plain_.data(), shape_.H, panels_.column,
                          to.w_hr + panel * panels_.projection_panel(shape_));
    }
    packing.pack_bias({0, panels_.gates}, to.bias);
    if (shape_.program) std::copy_n(weights.w_ch, shape_.program->vectors * shape_.H, to.vectors);
  }

 private:
  // A panel with some slots, or by slot one for each of them
  void convert(int64_t K, const Slots& slots, char* to, int64_t slot_bytes) {
    if (!panels_.cell.by_slot)
      return panels_.format.pack(plain_.data(), K, slots.count * panels_.unit, to);
    for (int s = 0; s < slots.count; ++s) {
      panels_.format.pack(plain_.data() + s * K * panels_.unit, K, panels_.unit,
                          to + s * slot_bytes);
    }
  }

  const Shape& shape_;
  const Panels<Real>& panels_;
  std::vector<Real> plain_;
};

}  // namespace

template <class Real>
Packed::Packed(const Shape& shape, std::shared_ptr<const Program> program, Format format,
               const KernelTable& kernels, const Weights<const Real>* weights)
    : shape(shape), program(std::move(program)), format(format), kernels(&kernels) {
  const bool save = false;
  const Panels<Real> panels(shape, kernels, format, save);
  if (!panels.format.bytes) throw std::invalid_argument("format: expected that of the dtype");
  Arena counting(nullptr);
  lay_out(shape, panels, counting);
  bytes = counting.bytes();
  block_.reset(new char[bytes]);
  Arena arena(block_.get());
  std::vector<PackedDirection<Real>> laid_out = lay_out(shape, panels, arena);
  Freezing<Real> freezing(shape, panels);
  for (size_t i = 0; i < laid_out.size(); ++i) {
    const int64_t in = shape.in(static_cast<int64_t>(i) / shape.directions);
    freezing.freeze(weights[i], in, laid_out[i]);
  }
  if constexpr (std::is_same_v<Real, float>) {
    f32 = std::move(laid_out);
  } else {
    f64 = std::move(laid_out);
  }
}

template Packed::Packed(const Shape&, std::shared_ptr<const Program>, Format, const KernelTable&,
                        const Weights<const float>*);
template Packed::Packed(const Shape&, std::shared_ptr<const Program>, Format, const KernelTable&,
                        const Weights<const double>*);

}  // namespace fastrnn
