#include "plain.h"

#include <cmath>
#include <random>

namespace fastrnn::plain {
namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// One unit: pre-activations of the input and of the hidden state, both with their bias, by gate
void step(Cell cell, const double* of_x, const double* of_h, double* h, double* c) {
  const auto pre = [&](int gate) { return of_x[gate] + of_h[gate]; };
  if (cell == Cell::kLstm) {
    *c = sigmoid(pre(1)) * *c + sigmoid(pre(0)) * std::tanh(pre(2));
    *h = sigmoid(pre(3)) * std::tanh(*c);
  } else if (cell == Cell::kGru) {
    const double z = sigmoid(pre(1)), n = std::tanh(of_x[2] + sigmoid(pre(0)) * of_h[2]);
    *h = (1 - z) * n + z * *h;
  } else {
    *h = cell == Cell::kRnnRelu ? std::fmax(pre(0), 0) : std::tanh(pre(0));
  }
}

double multiply(const double* a, const double* b, int64_t K) {
  double sum = 0;
  for (int64_t k = 0; k < K; ++k) sum += a[k] * b[k];
  return sum;
}

}  // namespace

Doubles random(int64_t count, uint32_t seed, double largest) {
  std::mt19937 bits(seed);
  Doubles numbers(count);
  for (double& number : numbers)
    number = static_cast<float>(largest * (static_cast<double>(bits()) / 0x1p31 - 1));
  return numbers;
}

Arguments random_arguments(Cell cell, const Sizes& n, uint32_t seed) {
  const int64_t rows = gates_of(cell) * n.H;
  const double largest = 1 / std::sqrt(static_cast<double>(n.H));
  return {{random(n.T * n.B * n.I, seed), random(n.B * n.H, seed + 1), random(n.B * n.H, seed + 2),
           random(rows * n.I, seed + 3, largest), random(rows * n.H, seed + 4, largest),
           random(rows, seed + 5, largest), random(rows, seed + 6, largest)}};
}

Results random_results(const Sizes& n, uint32_t seed) {
  return {random(n.T * n.B * n.H, seed), random(n.B * n.H, seed + 1), random(n.B * n.H, seed + 2)};
}

Results run(Cell cell, const Sizes& n, const Arguments& given) {
  const int gates = gates_of(cell);
  Results found = {Doubles(n.T * n.B * n.H), given[kH0], given[kC0]};
  for (int64_t t = 0; t < n.T; ++t) {
    const Doubles before = found.h;
    for (int64_t b = 0; b < n.B; ++b) {
      for (int64_t j = 0; j < n.H; ++j) {
        double of_x[4], of_h[4];
        for (int g = 0; g < gates; ++g) {
          const int64_t row = g * n.H + j;
          of_x[g] = given[kBIh][row] +
                    multiply(&given[kX][(t * n.B + b) * n.I], &given[kWIh][row * n.I], n.I);
          of_h[g] = given[kBHh][row] + multiply(&before[b * n.H], &given[kWHh][row * n.H], n.H);
        }
        double* h = &found.h[b * n.H + j];
        step(cell, of_x, of_h, h, &found.c[b * n.H + j]);
        found.y[(t * n.B + b) * n.H + j] = *h;
      }
    }
  }
  return found;
}

}  // namespace fastrnn::plain
