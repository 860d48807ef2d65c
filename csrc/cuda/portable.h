// What lets one source be compiled by nvcc for a GPU and by any C++ compiler for the tests.
#pragma once

#include <stdint.h>

#ifdef __CUDACC__
#define FASTRNN_DEVICE __device__ __forceinline__
#define FASTRNN_ANYWHERE __host__ __device__
#define FASTRNN_UNROLL _Pragma("unroll")
#else
#define FASTRNN_DEVICE inline
#define FASTRNN_ANYWHERE
#define FASTRNN_UNROLL
#endif
