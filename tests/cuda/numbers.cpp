// The conversions of csrc/cuda/numbers.h as the host compiles them, for ctypes.
#include "cuda/numbers.h"

using namespace fastrnn::cuda;

extern "C" {
void half_to_float(const uint16_t* from, float* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = widen(Half{from[i]});
}
void bfloat16_to_float(const uint16_t* from, float* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = widen(BFloat16{from[i]});
}
void float_to_half(const float* from, uint16_t* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = narrow<Half>(from[i]).bits;
}
void float_to_bfloat16(const float* from, uint16_t* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = narrow<BFloat16>(from[i]).bits;
}
}
