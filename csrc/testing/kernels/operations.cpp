// Each operation that programs have against the C library's, for a step of one row and of many.
#include <cmath>
#include <limits>

#include "calls.h"
#include "programs.h"
#include "testing/units/units.h"

namespace fastrnn {
namespace {

using plain::Doubles;
using plain::Sizes;

struct Operation {
  Op op;
  double (*value)(double a, double b, double c);
  bool positive = false;  // it is not defined below zero
};

constexpr Operation kOperations[] = {
    {Op::neg, [](double a, double, double) { return -a; }},
    {Op::exp, [](double a, double, double) { return std::exp(a); }},
    {Op::expm1, [](double a, double, double) { return std::expm1(a); }},
    {Op::log, [](double a, double, double) { return std::log(a); }, true},
    {Op::log1p, [](double a, double, double) { return std::log1p(a); }, true},
    {Op::sqrt, [](double a, double, double) { return std::sqrt(a); }, true},
    {Op::sigmoid, [](double a, double, double) { return 1 / (1 + std::exp(-a)); }},
    {Op::tanh, [](double a, double, double) { return std::tanh(a); }},
    {Op::softplus, [](double a, double, double) { return std::log1p(std::exp(a)); }},
    {Op::sin, [](double a, double, double) { return std::sin(a); }},
    {Op::cos, [](double a, double, double) { return std::cos(a); }},
    {Op::erf, [](double a, double, double) { return std::erf(a); }},
    {Op::abs, [](double a, double, double) { return std::fabs(a); }},
    {Op::sign, [](double a, double, double) { return static_cast<double>((a > 0) - (a < 0)); }},
    {Op::relu, [](double a, double, double) { return std::fmax(a, 0); }},
    {Op::reciprocal, [](double a, double, double) { return 1 / a; }},
    {Op::one_minus, [](double a, double, double) { return 1 - a; }},
    {Op::add, [](double a, double b, double) { return a + b; }},
    {Op::sub, [](double a, double b, double) { return a - b; }},
    {Op::mul, [](double a, double b, double) { return a * b; }},
    {Op::div, [](double a, double b, double) { return a / b; }},
    {Op::minimum, [](double a, double b, double) { return std::fmin(a, b); }},
    {Op::maximum, [](double a, double b, double) { return std::fmax(a, b); }},
    {Op::lt, [](double a, double b, double) { return static_cast<double>(a < b); }},
    {Op::le, [](double a, double b, double) { return static_cast<double>(a <= b); }},
    {Op::eq, [](double a, double b, double) { return static_cast<double>(a == b); }},
    {Op::d_sigmoid, [](double a, double b, double) { return a * b * (1 - b); }},
    {Op::d_tanh, [](double a, double b, double) { return a * (1 - b * b); }},
    {Op::d_relu, [](double a, double b, double) { return b <= 0 ? 0 : a; }},
    {Op::where, [](double a, double b, double c) { return a != 0 ? b : c; }},
    {Op::fma, [](double a, double b, double c) { return a * b + c; }},
};
// `spread` has a test of its own.
constexpr int kArithmetic = static_cast<int>(Op::fma) - static_cast<int>(Op::add_d_extra) - 1;
static_assert(sizeof kOperations / sizeof *kOperations == kArithmetic, "of each operation one");

constexpr int64_t kUnits = 70;

// a, b and c of each unit; some of them zero, and some of a and b alike
Doubles operands(bool positive) {
  Doubles all = plain::random(3 * kUnits, 3, 3);
  for (int64_t j = 0; j < kUnits; j += 5) all[j] = 0;
  for (int64_t j = 0; j < kUnits; j += 7) all[kUnits + j] = all[j];
  for (int64_t j = 0; positive && j < kUnits; ++j)
    all[j] = static_cast<float>(std::fabs(all[j]) + 0.125);
  return all;
}

template <class Real>
void check_operation(const Operation& own, int64_t rows, const KernelTable& table) {
  const Sizes n = {1, rows, 1, kUnits};
  const Program program = plain::cell_of(own.op);
  plain::Arguments given;
  given[plain::kX] = Doubles(rows, 1);
  given[plain::kH0] = given[plain::kC0] = Doubles(rows * kUnits);
  given[plain::kWIh] = operands(own.positive);
  given[plain::kBIh] = Doubles(3 * kUnits);
  plain::Call<Real> call(plain::shape_of<Real>(Cell::kProgram, n, &program), given, table, false);
  const Doubles found = call.forward().y;
  const double* all = given[plain::kWIh].data();
  for (int64_t i = 0; i < rows * kUnits; ++i) {
    const int64_t j = i % kUnits;
    const double a = all[j], b = all[kUnits + j], c = all[2 * kUnits + j];
    const double expected = own.value(a, b, c);
    if (found[i] == expected) continue;  // infinities, too
    if (std::isnan(found[i]) && std::isnan(expected)) continue;
    // What cancels, where the compiler may have left out a rounding
    const double cancels = own.op == Op::fma      ? std::fabs(a * b)
                           : own.op == Op::d_tanh ? std::fabs(a) * b * b
                                                  : 0;
    const double size = std::fabs(expected) + cancels;
    EXPECT(std::fabs(found[i] - expected) <= 8 * std::numeric_limits<Real>::epsilon() * size);
  }
}

UNIT(operations_are_those_of_the_c_library) {
  plain::each_isa([](const std::string&, const KernelTable& table) {
    for (const Operation& own : kOperations) {
      for (int64_t rows : {1, 5}) {
        check_operation<float>(own, rows, table);
        check_operation<double>(own, rows, table);
      }
    }
  });
}

// The units of a row share a number, the same in panels that are full and in one that is not.
template <class Real>
void check_rows(int64_t rows, const KernelTable& table) {
  const Sizes n = {1, rows, 1, kUnits};
  const Program program = plain::sum_cell();
  plain::Arguments given;
  for (int64_t r = 0; r < rows; ++r) given[plain::kX].push_back(1.0 + static_cast<double>(r));
  given[plain::kH0] = given[plain::kC0] = Doubles(rows * kUnits);
  given[plain::kWIh] = plain::random(kUnits, 3, 3);
  given[plain::kBIh] = Doubles(kUnits);
  plain::Call<Real> call(plain::shape_of<Real>(Cell::kProgram, n, &program), given, table, false);
  const Doubles found = call.forward().y;
  double sum = 0, size = 0;
  for (double weight : given[plain::kWIh]) {
    sum += weight;
    size += std::fabs(weight);
  }
  for (int64_t i = 0; i < rows * kUnits; ++i) {
    const double x = given[plain::kX][i / kUnits];
    EXPECT(std::fabs(found[i] + x * sum) <= 8 * std::numeric_limits<Real>::epsilon() * x * size);
    EXPECT(found[i] == found[i / kUnits * kUnits]);
  }
}

UNIT(units_share_the_numbers_of_their_row) {
  plain::each_isa([](const std::string&, const KernelTable& table) {
    for (int64_t rows : {1, 2, 7}) {
      check_rows<float>(rows, table);
      check_rows<double>(rows, table);
    }
  });
}

}  // namespace
}  // namespace fastrnn
