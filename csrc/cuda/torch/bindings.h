// The short way of calls on a GPU as Python sees it.
#pragma once

#include <pybind11/pybind11.h>

namespace fastrnn::cuda {

void bind_direct(pybind11::module_& m);

}  // namespace fastrnn::cuda
