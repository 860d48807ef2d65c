#include "frozen.h"

#include <pybind11/stl.h>

#include <memory>
#include <string>
#include <utility>

#include "calls.h"
#include "engine/forward/freeze.h"
#include "engine/kernels/dispatch.h"
#include "plans.h"

namespace py = pybind11;
using py::literals::operator""_a;

namespace fastrnn {
namespace {

std::shared_ptr<Packed> make_packed(Cell cell, DType dtype, int64_t I, int64_t H, int64_t P,
                                    int64_t layers, int64_t directions, bool bias, bool reverse,
                                    const std::shared_ptr<Program>& program, Format format,
                                    const Addresses& weights, const std::string& isa) {
  Shape shape = {cell, dtype, 0, 0, I, H, P, layers, directions, bias, reverse};
  add_program(shape, program.get());
  expect_count("weights", weights.size(), weight_count(shape));
  std::shared_ptr<Packed> packed;
  const KernelTable& kernels = kernels_of(isa);
  py::gil_scoped_release release;
  with_dtype(dtype, [&](auto zero) {
    using Real = decltype(zero);
    const auto all = weights_at<const Real>(shape, weights);
    packed = std::make_shared<Packed>(shape, program, format, kernels, all.data());
  });
  return packed;
}

Plan plan_of(const std::shared_ptr<Packed>& packed, int64_t T, int64_t B, bool states, int threads,
             bool is_packed, Address batch_sizes, Address row_index, Address resets) {
  Shape shape = packed->shape;
  shape.T = T;
  shape.B = B;
  PlanOptions options;
  options.packed = packed;
  options.states = states;
  options.threads = threads;
  Batch batch(T, B, copy_integers(batch_sizes, T), copy_integers(row_index, B), is_packed,
              at<const bool>(resets));
  Plan plan(shape, std::move(batch), options, *packed->kernels);
  plan.program = packed->program;
  return plan;
}

}  // namespace

void bind_packed(py::module_ m) {
  py::class_<Packed, std::shared_ptr<Packed>>(m, "Packed")
      .def(py::init(&make_packed), py::kw_only(), "cell"_a, "dtype"_a, "I"_a, "H"_a, "P"_a,
           "layers"_a, "directions"_a, "bias"_a, "reverse"_a, "program"_a, "format"_a, "weights"_a,
           "isa"_a)
      .def_readonly("bytes", &Packed::bytes)
      .def("plan", &plan_of, py::kw_only(), "T"_a, "B"_a, "states"_a, "threads"_a, "packed"_a,
           "batch_sizes"_a, "row_index"_a, "resets"_a);
}

}  // namespace fastrnn
