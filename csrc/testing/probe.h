// The kernels one at a time on plain row-major matrices, for the tests of each instruction set.
#pragma once

#include <cstdint>

#include "engine/kernels/kernels.h"

namespace fastrnn::probe {

// c[rows][columns] = a[rows][K] * w[columns][K]^T, through gate panels
template <class Real>
void multiply_transposed(const Kernels<Real>& kernels, const Real* a, const Real* w, Real* c,
                         int64_t rows, int64_t K, int64_t columns);

// c[rows][columns] = a[rows][K] * b[K][columns], through column panels
template <class Real>
void multiply(const Kernels<Real>& kernels, const Real* a, const Real* b, Real* c, int64_t rows,
              int64_t K, int64_t columns);

// c[rows][columns] += a[K][rows]^T * b[K][columns]; sums[rows] += sum of a's rows
template <class Real>
void outer(const Kernels<Real>& kernels, const Real* a, const Real* b, Real* c, Real* sums,
           int64_t rows, int64_t K, int64_t columns);

}  // namespace fastrnn::probe
