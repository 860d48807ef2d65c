// The cells, with one number as a lane: the spine that engine/cells/*-inl.h are included in. Their
// functions are called from here alone.
#pragma once

#include <math.h>

#include "engine/call/api.h"
#include "portable.h"

#define FASTRNN_LANE static FASTRNN_DEVICE

namespace fastrnn::cuda {

template <class Lane>
FASTRNN_DEVICE Lane magnitude(Lane x) {
  return ::fabs(x);
}

// e / (1 + e) or 1 / (1 + e) with e = exp(-|x|): neither cancels nor overflows.
template <class Lane>
FASTRNN_DEVICE Lane sigmoid(Lane x) {
  const Lane e = ::exp(-magnitude(x));
  return (x < 0 ? e : Lane{1}) / (1 + e);
}

template <class Lane>
FASTRNN_DEVICE Lane tanh(Lane x) {
  return ::tanh(x);
}

template <class Lane>
FASTRNN_DEVICE Lane relu(Lane x) {
  return x < 0 ? Lane{0} : x;
}

// x where relu's value h let its argument through, else zero; NaN counts as let through.
template <class Lane>
FASTRNN_DEVICE Lane where_open(Lane h, Lane x) {
  return h <= 0 ? Lane{0} : x;
}

// Cells
#include "engine/cells/gru-inl.h"
#include "engine/cells/lstm-inl.h"
#include "engine/cells/rnn-inl.h"

// The numbers of a cell at one row and unit
template <class C, class Lane>
struct Lanes {
  Lane pre[C::kSlots] = {};    // forward: before the activations; backward: their gradients
  Lane saved[C::kSlots] = {};  // what backward needs; of a cell that saves no gates h alone, in [0]
  Lane h_prev = {}, c_prev = {};
  Lane c = {};
};

// Returns h; fills saved and c.
template <class C, class Lane>
FASTRNN_DEVICE Lane apply_forward(Lanes<C, Lane>& at) {
  if constexpr (C::kSavesGates) {
    C::open(at.pre, at.c_prev, at.saved, at.c);
    return C::close(at.saved, at.h_prev, at.c);
  } else {
    return at.saved[0] = C::value(at.pre[0]);
  }
}

// d_h, d_c: the gradients of this step's states; they leave as those of the step before, d_h as the
// part that does not pass through the product with w_hh. Fills pre.
template <class C, class Lane>
FASTRNN_DEVICE void apply_backward(Lanes<C, Lane>& at, Lane& d_h, Lane& d_c) {
  C::backward(at.saved, at.saved[0], at.h_prev, at.c_prev, at.c, at.pre, d_h, d_c);
  if constexpr (!C::kReadsPreviousHidden) d_h = 0;
}

}  // namespace fastrnn::cuda
