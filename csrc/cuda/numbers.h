// Numbers as they are stored, and the precision that they are computed in.
#pragma once

#include <string.h>

#include "portable.h"
#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace fastrnn::cuda {

struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

// What products, states of cells and equations are computed in
template <class T>
struct SumOf {
  using Type = float;
};
template <>
struct SumOf<double> {
  using Type = double;
};
template <class T>
using Sum = typename SumOf<T>::Type;

FASTRNN_DEVICE uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}
FASTRNN_DEVICE float float_of(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

FASTRNN_DEVICE float widen(float x) { return x; }
FASTRNN_DEVICE double widen(double x) { return x; }
FASTRNN_DEVICE float widen(BFloat16 x) { return float_of(uint32_t{x.bits} << 16); }

template <class T>
struct Narrow;  // T from its Sum, rounded to nearest, ties to even

template <>
struct Narrow<float> {
  static FASTRNN_DEVICE float from(float x) { return x; }
};
template <>
struct Narrow<double> {
  static FASTRNN_DEVICE double from(double x) { return x; }
};

#ifdef __CUDACC__

FASTRNN_DEVICE float widen(Half x) { return __half2float(__ushort_as_half(x.bits)); }
template <>
struct Narrow<Half> {
  static FASTRNN_DEVICE Half from(float x) { return {__half_as_ushort(__float2half_rn(x))}; }
};
template <>
struct Narrow<BFloat16> {
  static FASTRNN_DEVICE BFloat16 from(float x) {
    return {__bfloat16_as_ushort(__float2bfloat16_rn(x))};
  }
};

// The 19 bits of a float that a tensor core reads, rounded to nearest, ties away from zero
FASTRNN_DEVICE uint32_t tf32_of(float x) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
}

#else

inline float widen(Half x) {
  const uint32_t magnitude = x.bits & 0x7fffu;
  const uint32_t sign = uint32_t{x.bits & 0x8000u} << 16;
  if (magnitude >= 0x7c00) return float_of(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  // A float with the same exponent field is 2^112 times too small, denormals included.
  return float_of(sign | bits_of(float_of(magnitude << 13) * 0x1p112f));
}
template <>
struct Narrow<Half> {
  static Half from(float x) {
    const uint32_t bits = bits_of(x), sign = bits >> 16 & 0x8000u;
    const float magnitude = float_of(bits & 0x7fffffffu);
    if (magnitude != magnitude) return {static_cast<uint16_t>(sign | 0x7e00u)};
    if (magnitude >= 65520.0f) return {static_cast<uint16_t>(sign | 0x7c00u)};
    // Adding 2^13 times the leading power of two (or 2^-1, for denormals) drops 13 bits (or more).
    const uint32_t exponent = bits_of(magnitude) & 0x7f800000u;
    const uint32_t least = 0x38800000u;  // 2^-14
    const float drop = float_of((exponent < least ? least : exponent) + (13u << 23));
    const float rounded = (magnitude + drop) - drop;
    return {static_cast<uint16_t>(sign | bits_of(rounded * 0x1p-112f) >> 13)};
  }
};
template <>
struct Narrow<BFloat16> {
  static BFloat16 from(float x) {
    const uint32_t bits = bits_of(x);
    if (x != x) return {static_cast<uint16_t>(bits >> 16 | 0x40u)};
    return {static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
  }
};
inline uint32_t tf32_of(float x) { return (bits_of(x) + 0x1000u) & ~0x1fffu; }

#endif

template <class T>
FASTRNN_DEVICE T narrow(Sum<T> x) {
  return Narrow<T>::from(x);
}

}  // namespace fastrnn::cuda
