// Layers of torch's cells as plain loops in double precision: what the kernels are compared with.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/kernels/dispatch.h"

namespace fastrnn::plain {

using Doubles = std::vector<double>;

// Uniform from -largest to largest, the same everywhere, and exact in float32
Doubles random(int64_t count, uint32_t seed, double largest = 1);

inline double dot(const Doubles& a, const Doubles& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

template <class Real>
std::vector<Real> as(const Doubles& numbers) {
  return std::vector<Real>(numbers.begin(), numbers.end());
}

// Calls function(name, kernels) for each instruction set that this processor has.
template <class Function>
void each_isa(Function function) {
  for (const std::string& name : available_isas()) function(name, kernels_of(name));
}

// One layer of one direction, with biases
struct Sizes {
  int64_t T, B, I, H;
};

constexpr int gates_of(Cell cell) { return cell == Cell::kLstm ? 4 : cell == Cell::kGru ? 3 : 1; }

// Arguments of a call, or their gradients: x [T, B, I], h0 and c0 [B, H], weights as torch has them
enum Argument { kX, kH0, kC0, kWIh, kWHh, kBIh, kBHh, kArguments };

struct Arguments {
  Doubles all[kArguments];
  const Doubles& operator[](Argument i) const { return all[i]; }
  Doubles& operator[](Argument i) { return all[i]; }
};

Arguments random_arguments(Cell cell, const Sizes& n, uint32_t seed);

// y [T, B, H], and the states after the last step [B, H]
struct Results {
  Doubles y, h, c;
};

Results random_results(const Sizes& n, uint32_t seed);
inline double dot(const Results& a, const Results& b) {
  return dot(a.y, b.y) + dot(a.h, b.h) + dot(a.c, b.c);
}

// torch's equations; a cell that is a program computes those of the RNN with tanh.
Results run(Cell cell, const Sizes& n, const Arguments& given);

}  // namespace fastrnn::plain
