// Layers of every cell, forward and backward, against plain loops: packing, products, equations and
// their derivatives together, of torch's cells and of one that is a program.
#include <algorithm>
#include <cmath>

#include "calls.h"
#include "programs.h"
#include "rounded.h"
#include "testing/units/units.h"

namespace fastrnn {
namespace {

using plain::Arguments;
using plain::distance;
using plain::Doubles;
using plain::Results;
using plain::Sizes;

// Single steps and single rows, which have ways of their own; a tile and a part of one; several
// blocks of tiles; units and features beside a vector's width, and products of several pieces
constexpr Sizes kSizes[] = {{1, 1, 7, 5},  {1, 1, 300, 33}, {1, 6, 9, 16}, {4, 1, 3, 20},
                            {3, 7, 5, 19}, {2, 55, 4, 8},   {2, 3, 4, 270}};
constexpr Cell kAll[] = {Cell::kLstm, Cell::kGru, Cell::kRnnTanh, Cell::kRnnRelu, Cell::kProgram};

template <class Real>
constexpr double kNear = std::is_same_v<Real, float> ? 2e-5 : 1e-12;

// The derivative of the results in the direction of a change of one argument, by a difference
double slope(Cell cell, const Sizes& n, const Arguments& given, plain::Argument of,
             const Doubles& change, const Results& weights) {
  constexpr double kStep = 1e-5;
  double value[2];
  for (int side = 0; side < 2; ++side) {
    Arguments near = given;
    for (size_t i = 0; i < change.size(); ++i) near[of][i] += (side ? kStep : -kStep) * change[i];
    value[side] = plain::dot(plain::run(cell, n, near), weights);
  }
  return (value[1] - value[0]) / (2 * kStep);
}

template <class Real>
void check_forward(Cell cell, const Sizes& n, const KernelTable& table, bool save,
                   const Program* program) {
  const Arguments given = plain::random_arguments(cell, n, 1);
  plain::Call<Real> call(plain::shape_of<Real>(cell, n, program), given, table, save);
  const Results found = call.forward(), expected = plain::run(cell, n, given);
  EXPECT(distance(found.y, expected.y) < kNear<Real>);
  EXPECT(distance(found.h, expected.h) < kNear<Real>);
  EXPECT(distance(found.c, expected.c) < kNear<Real>);
}

template <class Real>
void check_backward(Cell cell, const Sizes& n, const KernelTable& table, const Program* program) {
  const Arguments given = plain::random_arguments(cell, n, 1);
  const Results gradients = plain::random_results(n, 20);
  plain::Call<Real> call(plain::shape_of<Real>(cell, n, program), given, table, true);
  call.forward();
  const Arguments found = call.backward(gradients);
  for (int i = 0; i < plain::kArguments; ++i) {
    const auto of = static_cast<plain::Argument>(i);
    const Doubles change = plain::random(static_cast<int64_t>(given[of].size()), 30 + i);
    const double got = plain::dot(found[of], change);
    const double expected = slope(cell, n, given, of, change, gradients);
    const double size = std::sqrt(plain::dot(found[of], found[of]) * plain::dot(change, change));
    const double room = std::max(kNear<Real>, 1e-8) * (1 + size);
    EXPECT(std::fabs(got - expected) < room);
  }
}

template <class Check>
void each_case(Check check) {
  const Program program = plain::tanh_cell();
  plain::each_isa([&](const std::string&, const KernelTable& table) {
    for (Cell cell : kAll) {
      for (const Sizes& n : kSizes)
        check(cell, n, table, cell == Cell::kProgram ? &program : nullptr);
    }
  });
}

UNIT(layers_are_those_of_plain_loops) {
  each_case([](Cell cell, const Sizes& n, const KernelTable& table, const Program* program) {
    for (bool save : {false, true}) {
      check_forward<float>(cell, n, table, save, program);
      check_forward<double>(cell, n, table, save, program);
    }
  });
}

UNIT(matrices_of_bfloat16_give_the_bits_of_raised_ones) {
  each_case([](Cell cell, const Sizes& n, const KernelTable& table, const Program* program) {
    Arguments given = plain::random_arguments(cell, n, 1);
    plain::round_to_bfloat16(given[plain::kWIh]);
    plain::round_to_bfloat16(given[plain::kWHh]);
    plain::Call<float> call(plain::shape_of<float>(cell, n, program), given, table, false);
    const Results found = call.forward_of_halves(), expected = call.forward();
    EXPECT(found.y == expected.y);
    EXPECT(found.h == expected.h);
    EXPECT(found.c == expected.c);
  });
}

UNIT(gradients_are_the_slopes_of_plain_loops) {
  each_case([](Cell cell, const Sizes& n, const KernelTable& table, const Program* program) {
    if (n.H > 100) return;  // differences of plain loops would take too long
    check_backward<float>(cell, n, table, program);
    check_backward<double>(cell, n, table, program);
  });
}

}  // namespace
}  // namespace fastrnn
