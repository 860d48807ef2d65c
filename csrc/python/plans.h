// A call's plan as Python sees it.
#pragma once

#include <pybind11/pybind11.h>

namespace fastrnn {

void bind_plan(pybind11::module_ m);

}  // namespace fastrnn
