// The engine's calls in the terms of the bindings. Addresses are integers, 0 where there is
// nothing; sizes and strides are in elements.
#pragma once

#include <cstdint>
#include <tuple>
#include <vector>

#include "engine/call/plan.h"

namespace fastrnn {

// Which of a direction's weights a shape has beside w_ih
struct Present {
  explicit Present(const Shape& shape)
      : w_hh(!shape.program || shape.program->recurrent),
        b_ih(shape.bias),
        b_hh(shape.bias && w_hh),
        w_hr(shape.P > 0),
        w_ch(shape.program && shape.program->vectors > 0) {}
  bool w_hh, b_ih, b_hh, w_hr, w_ch;
  int count() const { return 1 + w_hh + b_ih + b_hh + w_hr + w_ch; }
};

using Address = uintptr_t;
using Addresses = std::vector<Address>;

// (address, elements from one step to the next, elements from one row to the next)
using Strided = std::tuple<Address, int64_t, int64_t>;

template <class T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

// For each direction of each layer in turn: w_ih, [w_hh], [b_ih], [b_hh], [w_hr], as torch has
// them, then [w_ch]
template <class Real>
std::vector<Weights<Real>> weights_at(const Shape& shape, const Addresses& flat,
                                      Source source = Source::kPlain) {
  std::vector<Weights<Real>> all(shape.layers * shape.directions);
  const Present has(shape);
  auto next = flat.begin();
  for (Weights<Real>& w : all) {
    w.w_ih = at<Real>(*next++);
    if (has.w_hh) w.w_hh = at<Real>(*next++);
    if (has.b_ih) w.b_ih = at<Real>(*next++);
    if (has.b_hh) w.b_hh = at<Real>(*next++);
    if (has.w_hr) w.w_hr = at<Real>(*next++);
    if (has.w_ch) w.w_ch = at<Real>(*next++);
    w.source = source;
  }
  return all;
}

inline size_t weight_count(const Shape& shape) {
  return static_cast<size_t>(shape.layers * shape.directions * Present(shape).count());
}

// ValueError if there are not as many addresses as there have to be
void expect_count(const char* name, size_t got, size_t expected);

// Where a call's tensors lie; api.h says what each is. Weights are in torch's flat order, the
// vectors of a direction after its others.
struct ForwardAddresses {
  Strided x{}, y{};
  Address h0 = 0, c0 = 0, h_n = 0, c_n = 0, h_all = 0, c_all = 0;
  Addresses weights, masks;
  Address saved = 0;
  Source source = Source::kPlain;  // of the matrices
};
struct BackwardAddresses {
  Strided x{}, d_y{}, d_x{};
  Address h0 = 0, c0 = 0, d_h_n = 0, d_c_n = 0, d_h_all = 0, d_c_all = 0, d_h0 = 0, d_c0 = 0;
  Addresses weights, d_weights, masks;
  Address saved = 0;
  static constexpr Source source = Source::kPlain;
};

// Release the GIL. Raise ValueError if there are not as many weights or masks as the plan has; one
// whose weights are packed has none.
void run_forward(const Plan& plan, const ForwardAddresses& from);
void run_backward(const Plan& plan, const BackwardAddresses& from);

}  // namespace fastrnn
