// Masks out of random numbers, of torch's tensors.
#pragma once

#include "tensors.h"

namespace fastrnn {

// Fills `to` with `value` where one of the numbers of 16 bits in the words is `limit` or more, else
// with 0, and returns true. False, with nothing done, if the words are no plain contiguous tensor
// of int64, `to` none of float32 or float64, or the words too few.
bool drawn(const Tensors& tensors, pybind11::handle words, pybind11::handle to, int limit,
           double value, int threads);

}  // namespace fastrnn
