// A call's plan as Python sees it.
#pragma once

#include <pybind11/pybind11.h>

#include <vector>

#include "calls.h"

namespace fastrnn {

// Makes a program the cell of a shape, which has its sizes already; null: it is torch's.
void add_program(Shape& shape, const Program* program);

std::vector<int64_t> copy_integers(Address address, int64_t n);  // none at address 0

void bind_plan(pybind11::module_ m);

}  // namespace fastrnn
