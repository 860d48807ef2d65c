// The engine as Python sees it: a table of contents. Addresses are Python integers, 0 where there
// is nothing; sizes and strides are in elements. The core knows neither torch nor NumPy. Stubs:
// python/fastrnn/_core.pyi.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "calls.h"
#include "engine/kernels/dispatch.h"
#include "engine/schedule/schedule.h"
#include "engine/team/crowd.h"
#include "engine/team/processors.h"
#include "plans.h"
#include "python/torch/direct.h"
#include "scratch.h"
#include "testing/probe.h"

namespace py = pybind11;

namespace fastrnn {
namespace {

py::dict build_info() {
  py::dict info;
  info["compiler"] = FASTRNN_COMPILER;
  info["openmp"] = built_with_openmp();
  return info;
}

py::dict processors() {
  py::dict found;
  found["allowed"] = allowed_processors();
  found["quota"] = processor_quota();
  found["usable"] = usable_processors();
  return found;
}

void bind_variants(py::module_ m) {
  py::enum_<Activation>(m, "Activation")
      .value("tanh", Activation::kTanh)
      .value("sigmoid", Activation::kSigmoid)
      .value("relu", Activation::kRelu)
      .value("hard_sigmoid", Activation::kHardSigmoid)
      .value("softsign", Activation::kSoftsign)
      .value("softplus", Activation::kSoftplus)
      .value("elu", Activation::kElu)
      .value("leaky_relu", Activation::kLeakyRelu)
      .value("affine", Activation::kAffine)
      .value("scaled_tanh", Activation::kScaledTanh)
      .value("thresholded_relu", Activation::kThresholdedRelu);
  py::class_<Squash>(m, "Squash").def(py::init<Activation, double, double>());
  py::class_<Variant>(m, "Variant")
      .def(py::init<>())
      .def(py::init([](Squash gates, Squash candidate, Squash output, double clip, bool coupled,
                       const std::string& peephole, bool reverse) {
        Variant variant = {gates, candidate, output, clip, coupled};
        for (char letter : peephole)
          variant.peephole[std::string("ifgo").find(letter)] = variant.peepholes++;
        variant.reverse = reverse;
        return variant;
      }));
}

void bind_kernels(py::module_ kernels) {
  kernels.def("activate", [](const std::string& isa, DType dtype, const Squash& squash, Address in,
                             Address out, int64_t n) {
    with_dtype(dtype, [&](auto zero) {
      using Real = decltype(zero);
      kernels_in<Real>(kernels_of(isa)).activate(squash, at<const Real>(in), at<Real>(out), n);
    });
  });
  kernels.def("slope", [](const std::string& isa, DType dtype, const Squash& squash, Address in,
                          Address out, int64_t n) {
    with_dtype(dtype, [&](auto zero) {
      using Real = decltype(zero);
      kernels_in<Real>(kernels_of(isa)).slope(squash, at<const Real>(in), at<Real>(out), n);
    });
  });
  kernels.def("multiply_transposed", [](const std::string& isa, DType dtype, Address a, Address w,
                                        Address c, int64_t rows, int64_t K, int64_t columns) {
    with_dtype(dtype, [&](auto zero) {
      using Real = decltype(zero);
      probe::multiply_transposed(kernels_in<Real>(kernels_of(isa)), at<const Real>(a),
                                 at<const Real>(w), at<Real>(c), rows, K, columns);
    });
  });
  kernels.def("multiply", [](const std::string& isa, DType dtype, Address a, Address b, Address c,
                             int64_t rows, int64_t K, int64_t columns) {
    with_dtype(dtype, [&](auto zero) {
      using Real = decltype(zero);
      probe::multiply(kernels_in<Real>(kernels_of(isa)), at<const Real>(a), at<const Real>(b),
                      at<Real>(c), rows, K, columns);
    });
  });
  kernels.def("outer", [](const std::string& isa, DType dtype, Address a, Address b, Address c,
                          Address sums, int64_t rows, int64_t K, int64_t columns) {
    with_dtype(dtype, [&](auto zero) {
      using Real = decltype(zero);
      probe::outer(kernels_in<Real>(kernels_of(isa)), at<const Real>(a), at<const Real>(b),
                   at<Real>(c), at<Real>(sums), rows, K, columns);
    });
  });
  kernels.def("schedule", [](double rows, int64_t panels, int vectors, int tallest, int64_t K,
                             int64_t panel_bytes, double row_cycles, bool deals, int threads) {
    const Schedule found =
        schedule_step({rows, panels, vectors, tallest, K, panel_bytes, row_cycles, deals}, threads);
    return std::tuple(found.split.rows, found.split.units, found.cycles, found.split.deals);
  });
  kernels.def("projects_within_step", [](double rows, int64_t panels, int vectors, int tallest,
                                         int64_t K, int64_t panel_bytes, double row_cycles,
                                         int64_t input_features, int crews, int threads) {
    const bool deals = true;
    return schedule_forward(
               {rows, panels, vectors, tallest, K, panel_bytes, row_cycles, deals, crews},
               input_features, panel_bytes / K, threads)
        .fused;
  });
  kernels.def("better_in_turn", [](double in_turn, int units, double side_by_side) {
    return better_in_turn({{1, units}, in_turn}, {{1, 1}, side_by_side});
  });
  kernels.def("threads_worth", &threads_worth);
  kernels.def("processor_quota", &processor_quota);
  kernels.def("pretend_processors", &pretend_processors);
  kernels.def("pretend_crowded", &pretend_crowded);
  kernels.def("times_crowded", &times_crowded);
  kernels.def("forward_block_rows", &forward_block_rows);
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  py::enum_<Cell>(m, "Cell")
      .value("lstm", Cell::kLstm)
      .value("gru", Cell::kGru)
      .value("rnn_tanh", Cell::kRnnTanh)
      .value("rnn_relu", Cell::kRnnRelu)
      .value("lstm_variant", Cell::kLstmVariant)
      .value("gru_variant", Cell::kGruVariant)
      .value("gru_reset_before", Cell::kGruResetBefore)
      .value("rnn_variant", Cell::kRnnVariant);
  py::enum_<DType>(m, "DType").value("float32", DType::kFloat32).value("float64", DType::kFloat64);
  bind_variants(m);

  bind_plan(m);

  py::class_<Tensors>(m, "Tensors")
      .def(py::init<const py::capsule&, py::tuple, py::function, py::tuple>());
  py::class_<Recorded>(m, "Recorded")
      .def_readonly("plan", &Recorded::plan)
      .def_property_readonly("batch_first",
                             [](const Recorded& recorded) { return recorded.form.batch_first; })
      .def_property_readonly("steps",
                             [](const Recorded& recorded) { return recorded.plan.shape.T; })
      .def_property_readonly("sizes", &Recorded::sizes)
      .def_property_readonly("origins", &Recorded::origins)
      .def("forget_origins", &Recorded::forget_origins)
      .def("backward", &Recorded::backward);
  py::class_<Direct>(m, "Direct")
      .def(py::init([](Cell cell, int64_t I, int64_t H, int64_t P, int64_t layers,
                       int64_t directions, bool bias, const Variant& variant, bool one_step,
                       const Tensors& tensors, py::function record) {
        Shape shape = {cell, DType::kFloat32, 0, 0, I, H, P, layers, directions, bias, variant};
        return Direct(shape, one_step, tensors, std::move(record));
      }))
      .def("call", &Direct::call);

  m.def("isa_built", &built_isas);
  m.def("isa_available", &available_isas);
  m.def("isa_active", &active_isa);
  m.def("isa_force",
        [](const std::optional<std::string>& name) { name ? force_isa(*name) : unforce_isa(); });
  m.def("build_info", &build_info);
  m.def("processors", &processors);
  m.def("empty_cache", &empty_cache);
  bind_kernels(m.def_submodule("kernels"));
}

}  // namespace fastrnn
