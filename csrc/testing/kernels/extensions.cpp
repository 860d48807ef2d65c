// Formats that extensions bring: with the instruction in plain C++ on every machine, and with the
// instruction itself where the processor has it, or where it can be trapped. What is exact is
// compared bit for bit.
#include "engine/kernels/extensions.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "calls.h"
#include "programs.h"
#include "rounded.h"
#include "testing/units/units.h"
#include "trapped_tiles.h"

namespace fastrnn {

#define OF(isa)                               \
  namespace isa##_plain_Int8Dots {            \
    extern const WeightFormat<float> kFormat; \
  }                                           \
  namespace isa##_plain_Bfloat16Dots {        \
    extern const WeightFormat<float> kFormat; \
  }                                           \
  namespace isa##_plain_Int8Tiles {           \
    extern const WeightFormat<float> kFormat; \
  }                                           \
  namespace isa##_plain_Bfloat16Tiles {       \
    extern const WeightFormat<float> kFormat; \
  }
FASTRNN_EACH_ISA
#undef OF

namespace {

using plain::Arguments;
using plain::Doubles;
using plain::Results;
using plain::Sizes;

std::vector<Extension> in_plain_code() {
  return {
#define PLAIN(isa, kind, format) \
  {#isa "_plain_" #kind, #isa, Format::format, &isa##_plain_##kind::kFormat, true, false},
#define OF(isa)                           \
  PLAIN(isa, Int8Dots, kInt8)             \
  PLAIN(isa, Bfloat16Dots, kBfloat16Dots) \
  PLAIN(isa, Int8Tiles, kInt8)            \
  PLAIN(isa, Bfloat16Tiles, kBfloat16Dots)
      FASTRNN_EACH_ISA
#undef OF
#undef PLAIN
  };
}

bool in_tiles(const Extension& own) {
  return own.name.find("amx") != std::string::npos || own.name.find("Tiles") != std::string::npos;
}

bool can_run(const Extension& own) {
  if (own.ask) return (own.available && own.ask()) || trap_tiles();
  return own.available;
}

// Calls function(kernels, kernels with the extension, extension) for each that this processor can
// run.
template <class Function>
void each_of_all(Format format, Function function) {
  std::vector<Extension> all = in_plain_code();
  all.insert(all.end(), extensions().begin(), extensions().end());
  plain::each_isa([&](const std::string& isa, const KernelTable& table) {
    for (const Extension& own : all) {
      if (own.isa != isa || own.format != format || !can_run(own)) continue;
      function(table, extended(table, own), own);
      EXPECT(!tiles_are_held());
    }
  });
}

template <class Function>
void each_extension(Format format, Function function) {
  each_of_all(format, [&](const KernelTable& table, const KernelTable& own, const Extension&) {
    function(table, own);
  });
}

constexpr Cell kAll[] = {Cell::kLstm, Cell::kGru, Cell::kRnnTanh, Cell::kRnnRelu, Cell::kProgram};
constexpr Sizes kSizes[] = {{2, 1, 7, 5}, {3, 5, 33, 20}, {2, 30, 130, 37}, {2, 70, 5, 300}};

Results frozen(Cell cell, const Sizes& n, const Arguments& given, Format format,
               const KernelTable& table) {
  const auto program = std::make_shared<const Program>(plain::tanh_cell());
  const bool own = cell == Cell::kProgram;
  const Shape shape = plain::shape_of<float>(cell, n, own ? program.get() : nullptr);
  plain::Given<float> numbers(given);
  const Weights<const float> weights = numbers.weights<const float>();
  const auto packed =
      std::make_shared<Packed>(shape, own ? program : nullptr, format, table, &weights);
  return plain::Call<float>(shape, given, table, false, packed).forward();
}

// Of one row of a batch
Arguments row_of(const Arguments& given, const Sizes& n, int64_t row) {
  Arguments own = given;
  own[plain::kX].clear();
  for (int64_t t = 0; t < n.T; ++t) {
    const auto from = given[plain::kX].begin() + (t * n.B + row) * n.I;
    own[plain::kX].insert(own[plain::kX].end(), from, from + n.I);
  }
  for (plain::Argument of : {plain::kH0, plain::kC0}) {
    const auto from = given[of].begin() + row * n.H;
    own[of].assign(from, from + n.H);
  }
  return own;
}

UNIT(int8_has_the_same_bits_by_dot_products_of_bytes) {
  each_extension(Format::kInt8, [](const KernelTable& pairs, const KernelTable& dots) {
    for (Cell cell : kAll) {
      for (const Sizes& n : kSizes) {
        const Arguments given = plain::random_arguments(cell, n, 5);
        const Results expected = frozen(cell, n, given, Format::kInt8, pairs);
        const Results found = frozen(cell, n, given, Format::kInt8, dots);
        EXPECT(found.y == expected.y);
        EXPECT(found.h == expected.h);
        EXPECT(found.c == expected.c);
      }
    }
  });
}

UNIT(int8_of_zeros_and_of_infinities_is_the_same) {
  const Sizes n = {1, 3, 9, 6};
  each_extension(Format::kInt8, [&](const KernelTable& pairs, const KernelTable& dots) {
    Arguments given = plain::random_arguments(Cell::kRnnTanh, n, 5);
    for (int64_t k = 0; k < n.I; ++k) given[plain::kX][k] = given[plain::kWIh][k] = 0;
    given[plain::kX][n.I] = std::numeric_limits<double>::infinity();
    const Doubles expected = frozen(Cell::kRnnTanh, n, given, Format::kInt8, pairs).y;
    const Doubles found = frozen(Cell::kRnnTanh, n, given, Format::kInt8, dots).y;
    for (size_t i = 0; i < found.size(); ++i) {
      const bool of_infinity = static_cast<int64_t>(i) / n.H == 1;
      EXPECT_EQUAL(std::isnan(found[i]), of_infinity);
      EXPECT(of_infinity || found[i] == expected[i]);
    }
  });
}

UNIT(a_row_by_dot_products_of_bfloat16_depends_on_itself_alone) {
  each_extension(Format::kBfloat16Dots, [](const KernelTable&, const KernelTable& dots) {
    for (Cell cell : kAll) {
      const Sizes n = {3, 17, 37, 200}, one = {3, 1, 37, 200};
      const Arguments given = plain::random_arguments(cell, n, 6);
      const Results all = frozen(cell, n, given, Format::kBfloat16Dots, dots);
      for (int64_t row : {0, 11, 16}) {
        const Results found = frozen(cell, one, row_of(given, n, row), Format::kBfloat16Dots, dots);
        EXPECT(std::equal(found.h.begin(), found.h.end(), all.h.begin() + row * n.H));
      }
    }
  });
}

UNIT(layers_by_dot_products_of_bfloat16_are_plain_loops_on_rounded_numbers) {
  each_extension(Format::kBfloat16Dots, [](const KernelTable&, const KernelTable& dots) {
    for (Cell cell : kAll) {
      for (Sizes n : kSizes) {
        n.T = 1;
        Arguments given = plain::random_arguments(cell, n, 7);
        plain::round_to_bfloat16(given[plain::kH0]);  // which the GRU reads unrounded as well
        const Doubles found = frozen(cell, n, given, Format::kBfloat16Dots, dots).y;
        for (plain::Argument of : {plain::kX, plain::kWIh, plain::kWHh})
          plain::round_to_bfloat16(given[of]);
        EXPECT(plain::distance(found, plain::run(cell, n, given).y) < 2e-5);
      }
    }
  });
}

// A call that brings its weights, with its products by dot products of bfloat16
template <class Check>
void each_call_in_bfloat16(Check check) {
  const Program program = plain::tanh_cell();
  each_extension(Format::kBfloat16Dots, [&](const KernelTable&, const KernelTable& dots) {
    for (Cell cell : kAll) {
      // The last has rows for two blocks of a backward pass.
      for (const Sizes& n : {Sizes{2, 3, 17, 21}, Sizes{4, 9, 33, 40}, Sizes{103, 10, 5, 6}}) {
        const Shape shape =
            plain::shape_of<float>(cell, n, cell == Cell::kProgram ? &program : nullptr);
        check(cell, n, shape, plain::random_arguments(cell, n, 8), dots);
      }
    }
  });
}

UNIT(a_call_in_bfloat16_has_the_bits_of_frozen_weights) {
  each_call_in_bfloat16([](Cell cell, const Sizes& n, const Shape& shape, const Arguments& given,
                           const KernelTable& dots) {
    const Results expected = frozen(cell, n, given, Format::kBfloat16Dots, dots);
    for (bool save : {false, true}) {
      plain::Call<float> call(shape, given, dots, save, nullptr, Format::kBfloat16Dots);
      const Results found = call.forward();
      EXPECT(found.y == expected.y);
      EXPECT(found.c == expected.c);
    }
  });
}

UNIT(a_call_of_a_single_step_multiplies_in_float32) {
  const Sizes n = {1, 3, 33, 40};
  each_extension(Format::kBfloat16Dots, [&](const KernelTable&, const KernelTable& dots) {
    for (Cell cell : kAll) {
      if (cell == Cell::kProgram) continue;
      const Shape shape = plain::shape_of<float>(cell, n);
      const Arguments given = plain::random_arguments(cell, n, 8);
      const auto forward = [&](Format format) {
        return plain::Call<float>(shape, given, dots, false, nullptr, format).forward().y;
      };
      EXPECT(forward(Format::kBfloat16Dots) == forward(Format::kPlain));
    }
  });
}

UNIT(a_nan_among_the_weights_of_a_call_in_bfloat16_stays_one) {
  const Sizes n = {2, 2, 6, 5};
  const Shape shape = plain::shape_of<float>(Cell::kRnnTanh, n);
  each_extension(Format::kBfloat16Dots, [&](const KernelTable&, const KernelTable& dots) {
    Arguments given = plain::random_arguments(Cell::kRnnTanh, n, 8);
    given[plain::kWIh][3 * n.I + 1] = std::numeric_limits<double>::quiet_NaN();
    plain::Call<float> call(shape, given, dots, false, nullptr, Format::kBfloat16Dots);
    const Doubles found = call.forward().y;
    for (int64_t i = 0; i < n.T * n.B * n.H; ++i)  // of one unit, and in the next step of all
      EXPECT_EQUAL(std::isnan(found[i]), i % n.H == 3 || i >= n.B * n.H);
  });
}

UNIT(gradients_of_a_call_in_bfloat16_are_those_of_float32_to_its_rounding) {
  each_call_in_bfloat16([](Cell cell, const Sizes& n, const Shape& shape, const Arguments& given,
                           const KernelTable& dots) {
    if (cell == Cell::kRnnRelu) return;  // rounding moves units to the other side of zero
    const Results gradients = plain::random_results(n, 20);
    const auto backward = [&](Format format) {
      plain::Call<float> call(shape, given, dots, true, nullptr, format);
      call.forward();
      return call.backward(gradients);
    };
    const Arguments found = backward(Format::kBfloat16Dots), expected = backward(Format::kPlain);
    for (int i = 0; i < plain::kArguments; ++i) {
      const auto of = static_cast<plain::Argument>(i);
      const double size = std::sqrt(plain::dot(expected[of], expected[of]));
      Doubles apart = found[of];
      for (size_t j = 0; j < apart.size(); ++j) apart[j] -= expected[of][j];
      EXPECT(std::sqrt(plain::dot(apart, apart)) <= 0.005 * size);
    }
  });
}

float half_as_float(float x) { return static_cast<float>(plain::bfloat16(x)); }

// Row times column in the order that products promise: pieces of k, each from zero; in each of them
// pairs, the second of a pair before the first
float sum_of_dots(const float* a, const float* b, int64_t K, int64_t columns) {
  const int64_t pieces = std::max<int64_t>(1, (K + 64) / 128);
  const int64_t length = ((K + pieces - 1) / pieces + 15) / 16 * 16;
  float all = 0;
  for (int64_t begin = 0; begin < K; begin += length) {
    const int64_t end = std::min(K, begin + length);
    const auto product = [&](float sum, int64_t k) {
      return k < end ? std::fma(half_as_float(a[k]), half_as_float(b[k * columns]), sum) : sum;
    };
    float piece = 0;
    for (int64_t k = begin; k < end; k += 2) piece = product(product(piece, k + 1), k);
    all = begin == 0 ? piece : all + piece;
  }
  return all;
}

// The same of tiles: 32 k at a time, in which even ones and odd ones are summed apart, from zero
float sum_of_tiles(const float* a, const float* b, int64_t K, int64_t columns) {
  float all = 0;
  for (int64_t begin = 0; begin < K; begin += 32) {
    float apart[2] = {0, 0};
    for (int64_t k = begin; k < K && k < begin + 32; ++k)
      apart[k % 2] = std::fma(half_as_float(a[k]), half_as_float(b[k * columns]), apart[k % 2]);
    all += apart[0] + apart[1];
  }
  return all;
}

// Column panels [panel][k][width] of b [K][columns], in a format
std::vector<char> packed(const WeightFormat<float>& format, const std::vector<float>& b, int64_t K,
                         int64_t columns, int64_t width) {
  const int64_t panels = (columns + width - 1) / width;
  std::vector<char> all(panels * format.panel_bytes(K, width));
  for (int64_t i = 0; i < panels; ++i) {
    std::vector<float> own(K * width);
    for (int64_t k = 0; k < K; ++k) {
      for (int64_t j = 0; j < width && i * width + j < columns; ++j)
        own[k * width + j] = b[k * columns + i * width + j];
    }
    format.pack(own.data(), K, width, all.data() + i * format.panel_bytes(K, width));
  }
  return all;
}

// a [rows][K] times b [K][columns]
struct Factors {
  Factors(int64_t rows, int64_t K, int64_t columns)
      : a(plain::as<float>(plain::random(rows * K, 1))),
        b(plain::as<float>(plain::random(K * columns, 2))),
        K(K),
        columns(columns) {}

  // The first rows of it, by the format's products
  std::vector<float> product(const KernelTable& table, Format of, int64_t rows) const {
    const WeightFormat<float>& format = table.f32.formats[static_cast<int>(of)];
    std::vector<float> c(rows * columns, std::nanf(""));
    std::vector<const float*> from(rows);
    std::vector<float*> to(rows);
    for (int64_t m = 0; m < rows; ++m) {
      from[m] = a.data() + m * K;
      to[m] = c.data() + m * columns;
    }
    std::vector<char> operands(rows * format.operand_bytes(K));
    const int64_t width = table.f32.column_width;
    const std::vector<char> panels = packed(format, b, K, columns, width);
    format.product({from.data(), rows, Runs{K}, panels.data(), 0, (columns + width - 1) / width,
                    to.data(), width, columns, nullptr, 0, false, 0, operands.data()});
    return c;
  }

  std::vector<float> a, b;
  int64_t K, columns;
};

// As many rows as tiles have, more, and more than one block of them; and those of all of these
constexpr int64_t kRows[] = {1, 2, 5, 13, 15, 16, 17, 31, 32, 33, 40, 75}, kMostRows = 101;

UNIT(products_of_bfloat16_have_the_bits_of_a_plain_loop) {
  each_of_all(Format::kBfloat16Dots, [](const KernelTable&, const KernelTable& own,
                                        const Extension& extension) {
    for (int64_t columns : {1, 17, 65}) {
      for (int64_t K : {1, 2, 31, 32, 33, 191, 300}) {
        const Factors factors(kMostRows, K, columns);
        const std::vector<float> all = factors.product(own, Format::kBfloat16Dots, kMostRows);
        int64_t different = 0;
        for (int64_t i = 0; i < kMostRows * columns; ++i) {
          const float *a = &factors.a[i / columns * K], *b = &factors.b[i % columns];
          different += all[i] != (in_tiles(extension) ? sum_of_tiles(a, b, K, columns)
                                                      : sum_of_dots(a, b, K, columns));
        }
        EXPECT_EQUAL(different, 0);
      }
    }
  });
}

UNIT(rows_of_products_by_extensions_depend_on_themselves_alone) {
  for (Format format : {Format::kInt8, Format::kBfloat16Dots}) {
    each_extension(format, [&](const KernelTable&, const KernelTable& own) {
      for (int64_t columns : {3, 70}) {
        for (int64_t K : {5, 63, 64, 97}) {
          const Factors factors(kMostRows, K, columns);
          const std::vector<float> all = factors.product(own, format, kMostRows);
          for (int64_t rows : kRows) {
            const std::vector<float> found = factors.product(own, format, rows);
            EXPECT(std::equal(found.begin(), found.end(), all.begin()));
          }
        }
      }
    });
  }
}

UNIT(products_of_int8_have_the_bits_of_pairs) {
  each_extension(Format::kInt8, [](const KernelTable& pairs, const KernelTable& own) {
    for (int64_t columns : {1, 17, 65}) {
      for (int64_t K : {1, 3, 31, 63, 64, 65, 130, 300}) {
        const Factors factors(kMostRows, K, columns);
        EXPECT(factors.product(own, Format::kInt8, kMostRows) ==
               factors.product(pairs, Format::kInt8, kMostRows));
      }
    }
  });
}

}  // namespace
}  // namespace fastrnn
