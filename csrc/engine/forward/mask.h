// Masks out of random numbers, as layers with dropout and zoneout have them.
#pragma once

#include <cstdint>

#include "engine/call/api.h"
#include "engine/kernels/kernels.h"

namespace fastrnn {

struct DrawnMask {
  DType dtype;
  int64_t count;
  const int16_t* numbers;
  int limit;
  double value;
  void* to;
};

// `value` where a number is `limit` or more, else 0; on as many threads as that is worth, at the
// most those offered.
void draw(const DrawnMask& mask, int threads, const KernelTable& kernels);

}  // namespace fastrnn
