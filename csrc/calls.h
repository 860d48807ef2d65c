// The engine's calls in the terms of the bindings. Addresses are integers, 0 where there is
// nothing; sizes and strides are in elements.
#pragma once

#include <cstdint>
#include <tuple>
#include <vector>

#include "cpu/plan.h"

namespace fastrnn {

using Address = uintptr_t;
using Addresses = std::vector<Address>;

// (address, elements from one step to the next, elements from one row to the next)
using Strided = std::tuple<Address, int64_t, int64_t>;

// Weights and masks in torch's flat order. Releases the GIL. Raises ValueError if their number is
// wrong.
void run_forward(const Plan& plan, const Strided& x, const Strided& y, Address h0, Address c0,
                 Address h_n, Address c_n, Address h_all, Address c_all,
                 const Addresses& flat_weights, const Addresses& masks, Address saved,
                 Address workspace);

}  // namespace fastrnn
