// Products with packed panels against plain loops, at sizes around every vector and tile.
#include <cmath>
#include <limits>

#include "engine/call/plan.h"
#include "engine/forward/centre.h"
#include "engine/forward/mask.h"
#include "plain.h"
#include "testing/probe.h"
#include "testing/units/units.h"

namespace fastrnn {
namespace {

using plain::Doubles;

constexpr int64_t kRows[] = {1, 2, 5, 6, 7, 13, 49}, kColumns[] = {1, 3, 4, 15, 16, 17, 65},
                  kLengths[] = {1, 7, 33, 300};

// c[m][n] = sum over k of |a[m][k] * b[k][n]| or of the products themselves
template <bool kMagnitudes>
double sum_of(const Doubles& a, const Doubles& b, int64_t m, int64_t n, int64_t K,
              int64_t columns) {
  double sum = 0;
  for (int64_t k = 0; k < K; ++k) {
    const double product = a[m * K + k] * b[k * columns + n];
    sum += kMagnitudes ? std::fabs(product) : product;
  }
  return sum;
}

// How many elements of c lie further from a * b, [rows][K] and [K][columns], than rounding explains
template <class Real>
int64_t wrong(const Doubles& a, const Doubles& b, const std::vector<Real>& c, int64_t rows,
              int64_t K, int64_t columns) {
  const double eps = std::numeric_limits<Real>::epsilon();
  int64_t count = 0;
  for (int64_t m = 0; m < rows; ++m) {
    for (int64_t n = 0; n < columns; ++n) {
      const double room = static_cast<double>(K + 2) * eps * sum_of<true>(a, b, m, n, K, columns);
      const double exact = sum_of<false>(a, b, m, n, K, columns);
      count += !(std::fabs(c[m * columns + n] - exact) <= room);
    }
  }
  return count;
}

Doubles transposed(const Doubles& a, int64_t rows, int64_t columns) {
  Doubles to(a.size());
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) to[c * rows + r] = a[r * columns + c];
  }
  return to;
}

template <class Real>
void check_products(const KernelTable& table, int64_t rows, int64_t K, int64_t columns) {
  const Kernels<Real>& kernels = kernels_in<Real>(table);
  const Doubles a = plain::random(rows * K, 1), b = plain::random(K * columns, 2);
  const auto own_a = plain::as<Real>(a), own_b = plain::as<Real>(b);
  std::vector<Real> c(rows * columns, std::nan(""));
  probe::multiply(kernels, own_a.data(), own_b.data(), c.data(), rows, K, columns);
  EXPECT_EQUAL(wrong(a, b, c, rows, K, columns), 0);

  c.assign(c.size(), std::nan(""));
  const auto w = plain::as<Real>(transposed(b, K, columns));
  probe::multiply_transposed(kernels, own_a.data(), w.data(), c.data(), rows, K, columns);
  EXPECT_EQUAL(wrong(a, b, c, rows, K, columns), 0);

  c.assign(c.size(), 0);
  std::vector<Real> sums(rows);
  const auto by_k = plain::as<Real>(transposed(a, rows, K));
  probe::outer(kernels, by_k.data(), own_b.data(), c.data(), sums.data(), rows, K, columns);
  EXPECT_EQUAL(wrong(a, b, c, rows, K, columns), 0);
  EXPECT_EQUAL(wrong(a, Doubles(K, 1), sums, rows, K, 1), 0);
}

UNIT(products_are_those_of_plain_loops) {
  plain::each_isa([](const std::string&, const KernelTable& table) {
    for (int64_t rows : kRows) {
      for (int64_t columns : kColumns) {
        for (int64_t K : kLengths) {
          check_products<float>(table, rows, K, columns);
          check_products<double>(table, rows, K, columns);
        }
      }
    }
  });
}

template <class Real>
void check_means(const KernelTable& table, int64_t rows, int64_t columns, int64_t groups) {
  const int64_t all = rows * groups;
  const Doubles a = plain::random(all * columns, 1);
  const auto from = plain::as<Real>(a);
  std::vector<Real> to(from.size(), std::nan(""));
  const DType dtype = sizeof(Real) == sizeof(float) ? DType::kFloat32 : DType::kFloat64;
  centre({{dtype, all, columns, from.data(), to.data()}}, groups, 2, table);
  int64_t wrong = 0;
  for (int64_t i = 0; i < all * columns; ++i) {
    const int64_t first = i / columns / rows * rows, n = i % columns;
    double mean = 0, magnitude = 0;
    for (int64_t r = first; r < first + rows; ++r) {
      const double part = a[r * columns + n] / static_cast<double>(rows);
      mean += part;
      magnitude += std::fabs(part);
    }
    const double room = static_cast<double>(rows + 2) * std::numeric_limits<Real>::epsilon() *
                        (magnitude + std::fabs(a[i]));
    wrong += !(std::fabs(to[i] - (a[i] - mean)) <= room);
  }
  EXPECT_EQUAL(wrong, 0);
}

UNIT(means_of_columns_are_those_of_plain_loops) {
  plain::each_isa([](const std::string&, const KernelTable& table) {
    for (int64_t rows : {1, 2, 16, 17, 300}) {
      for (int64_t columns : {1, 3, 16, 65, 130}) {
        for (int64_t groups : {1, 3}) {
          check_means<float>(table, rows, columns, groups);
          check_means<double>(table, rows, columns, groups);
        }
      }
    }
  });
}

template <class Real>
void check_mask(const KernelTable& table, int64_t count, int limit) {
  std::vector<int16_t> numbers(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) numbers[i] = static_cast<int16_t>(i * 4099);
  std::vector<Real> to(numbers.size() + 1, Real{7});
  const DType dtype = sizeof(Real) == sizeof(float) ? DType::kFloat32 : DType::kFloat64;
  draw({dtype, count, numbers.data(), limit, 1.25, to.data()}, 2, table);
  int64_t wrong = to.back() != 7;
  for (int64_t i = 0; i < count; ++i)
    wrong += to[i] != (numbers[i] >= limit ? Real{1.25} : Real{0});
  EXPECT_EQUAL(wrong, 0);
}

UNIT(masks_are_those_of_plain_loops) {
  plain::each_isa([](const std::string&, const KernelTable& table) {
    for (int64_t count : {0, 1, 15, 64, 100, 70001}) {
      for (int limit : {-32768, -5, 0, 32767}) {
        check_mask<float>(table, count, limit);
        check_mask<double>(table, count, limit);
      }
    }
  });
}

}  // namespace
}  // namespace fastrnn
