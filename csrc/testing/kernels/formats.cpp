// Weights packed in fewer bytes against plain loops on numbers that are rounded the same way.
#include <algorithm>
#include <cmath>

#include "calls.h"
#include "rounded.h"
#include "testing/units/units.h"

namespace fastrnn {
namespace {

using plain::Arguments;
using plain::Doubles;
using plain::Sizes;

constexpr Sizes kSizes[] = {{1, 1, 7, 5}, {1, 5, 33, 20}, {1, 30, 130, 37}};
constexpr Cell kCompiled[] = {Cell::kLstm, Cell::kGru, Cell::kRnnTanh, Cell::kRnnRelu};
constexpr double kNear = 2e-5;

// Each row as integers up to 127 times a scale
void round_rows(Doubles& numbers, int64_t width) {
  for (auto row = numbers.begin(); row < numbers.end(); row += width) {
    double largest = 0;
    for (auto x = row; x < row + width; ++x) largest = std::max(largest, std::fabs(*x));
    const float scale = static_cast<float>(largest) / 127;
    for (auto x = row; x < row + width; ++x)
      *x = scale * static_cast<double>(std::nearbyint(static_cast<float>(*x) / scale));
  }
}

Arguments rounded(Arguments given, Format format, const Sizes& n) {
  if (format == Format::kBfloat16) {
    for (plain::Argument of : {plain::kWIh, plain::kWHh}) plain::round_to_bfloat16(given[of]);
  } else {
    round_rows(given[plain::kX], n.I);
    round_rows(given[plain::kWIh], n.I);
    round_rows(given[plain::kWHh], n.H);
  }
  return given;
}

// Hidden states that int8 leaves as they are: the GRU's equations read them unrounded as well
Doubles states_of_int8(const Sizes& n) {
  Doubles all = plain::random(n.B * n.H, 8, 127);
  for (double& x : all) x = std::nearbyint(x) / 128;
  for (int64_t r = 0; r < n.B; ++r) all[r * n.H] = 127.0 / 128;
  return all;
}

double most_apart(Cell cell, const Sizes& n, Format format, const KernelTable& table) {
  Arguments given = plain::random_arguments(cell, n, 7);
  given[plain::kH0] = states_of_int8(n);
  const Shape shape = plain::shape_of<float>(cell, n);
  plain::Given<float> own(given);
  const Weights<const float> weights = own.weights<const float>();
  const auto packed = std::make_shared<Packed>(shape, nullptr, format, table, &weights);
  const Doubles found = plain::Call<float>(shape, given, table, false, packed).forward().y;
  const Doubles expected = plain::run(cell, n, rounded(given, format, n)).y;
  return plain::distance(found, expected);
}

UNIT(weights_of_fewer_bytes_are_those_of_plain_loops) {
  plain::each_isa([](const std::string&, const KernelTable& table) {
    for (Format format : {Format::kBfloat16, Format::kInt8}) {
      for (Cell cell : kCompiled) {
        for (const Sizes& n : kSizes) EXPECT(most_apart(cell, n, format, table) < kNear);
      }
    }
  });
}

}  // namespace
}  // namespace fastrnn
