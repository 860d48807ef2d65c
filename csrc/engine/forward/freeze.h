// Weights that are packed once for the inference of many calls.
#pragma once

#include <memory>
#include <vector>

#include "packed.h"

namespace fastrnn {

// The weights of all layers in a format, laid out for one instruction set. What it was made of may
// be gone.
struct Packed {
  // weights: [layers * directions] of the shape's dtype. Throws std::invalid_argument where the
  // dtype has no such format.
  template <class Real>
  Packed(const Shape& shape, std::shared_ptr<const Program> program, Format format,
         const KernelTable& kernels, const Weights<const Real>* weights);

  Shape shape;  // without T and B
  std::shared_ptr<const Program> program;
  Format format;
  const KernelTable* kernels;
  int64_t bytes = 0;

  // Where the weights of each direction of each layer lie
  std::vector<PackedDirection<float>> f32;
  std::vector<PackedDirection<double>> f64;

 private:
  std::unique_ptr<char[]> block_;
};

// Those of a call's numbers; null of null
template <class Real>
const PackedDirection<Real>* packed_in(const Packed* packed) {
  if (!packed) return nullptr;
  if constexpr (std::is_same_v<Real, float>) {
    return packed->f32.data();
  } else {
    return packed->f64.data();
  }
}

}  // namespace fastrnn
