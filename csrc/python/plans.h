// A call's plan as Python sees it.
#pragma once

#include <pybind11/pybind11.h>

#include "engine/call/plan.h"

namespace fastrnn {

// Makes a program the cell of a shape, which has its sizes already; null: it is torch's.
void add_program(Shape& shape, const Program* program);

void bind_plan(pybind11::module_ m);

}  // namespace fastrnn
