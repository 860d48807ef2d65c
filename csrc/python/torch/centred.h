// Matrices less the means of their columns, of torch's tensors.
#pragma once

#include "tensors.h"

namespace fastrnn {

// A list of new tensors, each of which has the means over some groups of its rows taken off; None
// if one of the matrices is no plain contiguous one of float32 or float64, or has no such groups.
pybind11::object centred(const Tensors& tensors, const pybind11::sequence& matrices, int64_t groups,
                         int threads);

}  // namespace fastrnn
