// Numbers as formats round them, in double precision.
#pragma once

#include <algorithm>
#include <cmath>

#include "plain.h"

namespace fastrnn::plain {

// 8 bits of mantissa, the nearest, half to even
inline double bfloat16(double x) {
  int exponent;
  const double mantissa = std::frexp(x, &exponent);
  return std::ldexp(std::nearbyint(std::ldexp(mantissa, 8)), exponent - 8);
}

inline void round_to_bfloat16(Doubles& numbers) {
  std::transform(numbers.begin(), numbers.end(), numbers.begin(), bfloat16);
}

inline double distance(const Doubles& a, const Doubles& b) {
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double own = std::fabs(a[i] - b[i]);
    if (!(own <= most)) most = own;  // NaN, too
  }
  return most;
}

}  // namespace fastrnn::plain
