// Weights that are packed once, as Python sees them.
#pragma once

#include <pybind11/pybind11.h>

namespace fastrnn {

void bind_packed(pybind11::module_ m);

}  // namespace fastrnn
