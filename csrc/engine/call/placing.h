// From a program's code, which copies each quantity into a register and back, to code that meets
// quantities where they lie.
#pragma once

#include "program.h"

namespace fastrnn {

// The code of a stage for panels that are `full`, or for one whose places may end within a vector,
// and are copied then. `product` is the stage's, or -1. Every result has the same bits either way.
PlacedCode place_code(const Program& program, const std::vector<Instruction>& code, int product,
                      bool backward, bool full);

// The code of rows, whose numbers lie where units' quantities do.
PlacedCode place_rows(const std::vector<Instruction>& code);

}  // namespace fastrnn
