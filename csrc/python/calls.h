// The engine's calls in the terms of the bindings. Addresses are integers, 0 where there is
// nothing; sizes and strides are in elements.
#pragma once

#include <cstdint>
#include <tuple>
#include <vector>

#include "engine/call/plan.h"

namespace fastrnn {

using Address = uintptr_t;
using Addresses = std::vector<Address>;

// (address, elements from one step to the next, elements from one row to the next)
using Strided = std::tuple<Address, int64_t, int64_t>;

template <class T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

template <class Function>
void with_dtype(DType dtype, Function function) {
  if (dtype == DType::kFloat32) {
    function(float());
  } else {
    function(double());
  }
}

// Weights and masks in torch's flat order. Releases the GIL. Raises ValueError if their number is
// wrong.
void run_forward(const Plan& plan, const Strided& x, const Strided& y, Address h0, Address c0,
                 Address h_n, Address c_n, Address h_all, Address c_all,
                 const Addresses& flat_weights, const Addresses& masks, Address saved);
void run_backward(const Plan& plan, const Strided& x, Address h0, Address c0,
                  const Addresses& flat_weights, const Addresses& masks, const Strided& d_y,
                  Address d_h_n, Address d_c_n, Address d_h_all, Address d_c_all,
                  const Strided& d_x, Address d_h0, Address d_c0, const Addresses& d_flat_weights,
                  Address saved);

}  // namespace fastrnn
