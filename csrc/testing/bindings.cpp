// The engine's single kernels, its cost model, and what makes it believe that the machine is
// another one: for the tests. No wheel has it.
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>
#include <tuple>

#include "probe.h"
#include "python/calls.h"
#include "python/hooks.h"

namespace py = pybind11;

namespace fastrnn {
namespace {

const Hooks& engine() {
  static const Hooks& lent = []() -> const Hooks& {
    const py::object capsule = py::module_::import("fastrnn._core").attr("hooks");
    const auto* hooks = static_cast<const Hooks*>(PyCapsule_GetPointer(capsule.ptr(), kHooksName));
    if (!hooks) throw py::error_already_set();
    if (hooks->bytes != kHooksBytes)
      throw py::import_error("fastrnn._core was built from other sources: install it again");
    return *hooks;
  }();
  return lent;
}

// Calls function(kernels, zero) with the kernels of an instruction set for a member of _core.DType.
template <class Function>
void with_kernels(const std::string& isa, int dtype, Function function) {
  const KernelTable& table = engine().kernels_of(isa);
  with_dtype(static_cast<DType>(dtype),
             [&](auto zero) { function(kernels_in<decltype(zero)>(table), zero); });
}

// Members of _core's enumerations come as their values, arrays as their addresses.
void bind_kernels(py::module_ m) {
  m.def("multiply_transposed", [](const std::string& isa, int dtype, Address a, Address w,
                                  Address c, int64_t rows, int64_t K, int64_t columns) {
    with_kernels(isa, dtype, [&](const auto& kernels, auto zero) {
      using Real = decltype(zero);
      probe::multiply_transposed(kernels, at<const Real>(a), at<const Real>(w), at<Real>(c), rows,
                                 K, columns);
    });
  });
  m.def("multiply", [](const std::string& isa, int dtype, Address a, Address b, Address c,
                       int64_t rows, int64_t K, int64_t columns) {
    with_kernels(isa, dtype, [&](const auto& kernels, auto zero) {
      using Real = decltype(zero);
      probe::multiply(kernels, at<const Real>(a), at<const Real>(b), at<Real>(c), rows, K, columns);
    });
  });
  m.def("outer", [](const std::string& isa, int dtype, Address a, Address b, Address c,
                    Address sums, int64_t rows, int64_t K, int64_t columns) {
    with_kernels(isa, dtype, [&](const auto& kernels, auto zero) {
      using Real = decltype(zero);
      probe::outer(kernels, at<const Real>(a), at<const Real>(b), at<Real>(c), at<Real>(sums), rows,
                   K, columns);
    });
  });
}

void bind_cost_model(py::module_ m) {
  m.def("schedule", [](double rows, int64_t panels, int vectors, int tallest, int64_t K,
                       int64_t panel_bytes, double row_cycles, bool deals, int threads,
                       double packed) {
    const Schedule found = engine().schedule_step(
        {rows, panels, vectors, tallest, K, panel_bytes, row_cycles, deals, 1, packed}, threads);
    return std::tuple(found.split.rows, found.split.units, found.cycles, found.split.deals);
  });
  m.def("projects_within_step",
        [](double rows, int64_t panels, int vectors, int tallest, int64_t K, int64_t panel_bytes,
           double row_cycles, int64_t input_features, int crews, int threads) {
          const bool deals = true;
          return engine()
              .schedule_forward(
                  {rows, panels, vectors, tallest, K, panel_bytes, row_cycles, deals, crews},
                  input_features, panel_bytes / K, threads)
              .fused;
        });
  m.def("better_in_turn", [](double in_turn, int units, double side_by_side) {
    return engine().better_in_turn({{1, units}, in_turn}, {{1, 1}, side_by_side});
  });
  m.def("threads_worth", engine().threads_worth);
  m.def("forward_block_rows", engine().forward_block_rows);
}

}  // namespace

PYBIND11_MODULE(_testing, m) {
  bind_kernels(m);
  bind_cost_model(m);
  m.def("processor_quota", engine().processor_quota);
  m.def("pretend_processors", engine().pretend_processors);
  m.def("pretend_crowded", engine().pretend_crowded);
  m.def("pretend_signal", engine().pretend_signal);
  m.def("pretend_no_openmp", engine().pretend_no_openmp);
}

}  // namespace fastrnn
