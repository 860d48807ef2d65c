// Vectors that are put together from sums of pieces of others, of torch's tensors.
#pragma once

#include <pybind11/pybind11.h>

#include <vector>

#include "tensors.h"

namespace fastrnn {

// The elements begin .. end of some vectors, by their places, added up in this order; zeros of none
struct Piece {
  std::vector<size_t> terms;
  int64_t begin, end;
};

// Pieces one after the other
class Sums {
 public:
  // sizes: of the vectors
  Sums(std::vector<Piece> pieces, std::vector<int64_t> sizes);

  // The new vector; None if one of these is no plain contiguous one of float32 or float64, or of
  // another size.
  pybind11::object of(const Tensors& tensors, const pybind11::sequence& vectors) const;

 private:
  std::vector<Piece> pieces_;
  std::vector<int64_t> sizes_;
  int64_t size_ = 0;  // of the new one
};

}  // namespace fastrnn
