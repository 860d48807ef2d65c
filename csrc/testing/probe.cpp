#include "probe.h"

#include <vector>

namespace fastrnn::probe {
namespace {

template <class Pointer>
std::vector<Pointer> row_pointers(Pointer base, int64_t rows, int64_t stride) {
  std::vector<Pointer> pointers;
  for (int64_t r = 0; r < rows; ++r) pointers.push_back(base + r * stride);
  return pointers;
}

template <class Real>
int64_t panel_count(const Kernels<Real>& kernels, int64_t columns) {
  return (columns + kernels.column_width - 1) / kernels.column_width;
}

template <class Real>
std::vector<Real> pack_columns(const Kernels<Real>& kernels, const Real* b, int64_t K,
                               int64_t columns) {
  const int64_t panels = panel_count(kernels, columns);
  std::vector<Real> packed(panels * K * kernels.column_width);
  const auto rows = row_pointers(b, K, columns);
  kernels.pack_rows({rows.data(), K, columns, packed.data(), K * kernels.column_width, 0, panels});
  return packed;
}

template <class Real>
void multiply_packed(const Kernels<Real>& kernels, const Real* a, const Real* panels, Real* c,
                     int64_t rows, int64_t K, int64_t columns) {
  const auto from = row_pointers(a, rows, K);
  const auto to = row_pointers(c, rows, columns);
  kernels.product({from.data(), rows, Runs{K}, panels, 0, panel_count(kernels, columns), to.data(),
                   kernels.column_width, columns, nullptr, 0, false});
}

}  // namespace

template <class Real>
void multiply_transposed(const Kernels<Real>& kernels, const Real* a, const Real* w, Real* c,
                         int64_t rows, int64_t K, int64_t columns) {
  const int64_t panels = panel_count(kernels, columns);
  std::vector<Real> packed(panels * K * kernels.column_width);
  const int gate = 0;
  kernels.pack_gates({w, columns, K, 1, &gate, kernels.column_width, packed.data(), 0, panels});
  multiply_packed(kernels, a, packed.data(), c, rows, K, columns);
}

template <class Real>
void multiply(const Kernels<Real>& kernels, const Real* a, const Real* b, Real* c, int64_t rows,
              int64_t K, int64_t columns) {
  multiply_packed(kernels, a, pack_columns(kernels, b, K, columns).data(), c, rows, K, columns);
}

template <class Real>
void outer(const Kernels<Real>& kernels, const Real* a, const Real* b, Real* c, Real* sums,
           int64_t rows, int64_t K, int64_t columns) {
  const std::vector<Real> packed = pack_columns(kernels, b, K, columns);
  std::vector<Real*> to(rows);
  for (int64_t i = 0; i < rows; ++i) to[i] = c + i * columns;
  kernels.outer({a, rows, rows, K, packed.data(), K * kernels.column_width, 0,
                 panel_count(kernels, columns), to.data(), columns, true});
  kernels.sum_rows({a, rows, rows, K, sums, true});
}

#define FASTRNN_INSTANTIATE(Real)                                                                 \
  template void multiply_transposed(const Kernels<Real>&, const Real*, const Real*, Real*,        \
                                    int64_t, int64_t, int64_t);                                   \
  template void multiply(const Kernels<Real>&, const Real*, const Real*, Real*, int64_t, int64_t, \
                         int64_t);                                                                \
  template void outer(const Kernels<Real>&, const Real*, const Real*, Real*, Real*, int64_t,      \
                      int64_t, int64_t);
FASTRNN_INSTANTIATE(float)
FASTRNN_INSTANTIATE(double)
#undef FASTRNN_INSTANTIATE

}  // namespace fastrnn::probe
