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
  std::vector<Real> plain(FormatPacking<Real>::room(shape, panels));
  for (size_t i = 0; i < laid_out.size(); ++i) {
    const int64_t in = shape.in(static_cast<int64_t>(i) / shape.directions);
    const PackedDirection<Real>& own = laid_out[i];
    const FormatPacking<Real> packing(shape, panels, weights[i], in, own);
    packing.pack_gates({0, panels.gates}, plain.data());
    if (shape.P) packing.pack_projection({0, panels.columns(shape.P)}, plain.data());
    DirectionPacking<Real>(shape, panels, weights[i], in).pack_bias({0, panels.gates}, own.bias);
    if (shape.program) std::copy_n(weights[i].w_ch, shape.program->vectors * shape.H, own.vectors);
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
