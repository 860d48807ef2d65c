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

#include "engine/forward/freeze.h"
#include "engine/kernels/dispatch.h"
#include "engine/kernels/extensions.h"
#include "engine/schedule/schedule.h"
#include "engine/team/crowd.h"
#include "engine/team/distance.h"
#include "engine/team/openmp.h"
#include "engine/team/processors.h"
#include "engine/team/team.h"
#include "frozen.h"
#include "hooks.h"
#include "plans.h"
#include "python/torch/centred.h"
#include "python/torch/direct.h"
#include "python/torch/drawn.h"
#include "python/torch/openmp.h"
#include "python/torch/sums.h"
#include "scratch.h"

namespace py = pybind11;

namespace fastrnn {
namespace {

py::dict build_info() {
  py::dict info;
  info["compiler"] = FASTRNN_COMPILER;
  const OpenMp* const shared = openmp();
  info["openmp"] = shared ? py::cast(shared->library) : py::none();
  return info;
}

py::dict processors() {
  py::dict found;
  found["allowed"] = allowed_processors();
  found["quota"] = processor_quota();
  found["usable"] = usable_processors();
  return found;
}

// After a call that does nothing but find out
double signal_now(int threads) {
  struct Nothing {
    void prepare(int) {}
    void operator()(int, int) {}
  } nothing;
  run_team(threads, nothing);
  return signal_nanoseconds();
}

const Hooks kHooks = {kHooksBytes,        kernels_of,      schedule_step,      schedule_forward,
                      better_in_turn,     threads_worth,   forward_block_rows, processor_quota,
                      pretend_processors, pretend_crowded, pretend_signal,     pretend_no_openmp};

}  // namespace

PYBIND11_MODULE(_core, m, py::mod_gil_not_used()) {
  py::enum_<Cell>(m, "Cell")
      .value("lstm", Cell::kLstm)
      .value("gru", Cell::kGru)
      .value("rnn_tanh", Cell::kRnnTanh)
      .value("rnn_relu", Cell::kRnnRelu)
      .value("program", Cell::kProgram);
  py::enum_<Format>(m, "Format")
      .value("float32", Format::kPlain)
      .value("bfloat16", Format::kBfloat16)
      .value("int8", Format::kInt8)
      .value("bfloat16_products", Format::kBfloat16Dots);
  py::enum_<DType>(m, "DType").value("float32", DType::kFloat32).value("float64", DType::kFloat64);

  search_openmp_by(torchs_openmp);
  bind_plan(m);
  bind_packed(m);

  py::class_<Tensors>(m, "Tensors")
      .def(py::init<const py::capsule&, py::tuple, py::function, py::tuple>())
      .def("centred", &centred)
      .def("drawn", &drawn);
  py::class_<Sums>(m, "Sums")
      .def(py::init([](const std::vector<std::tuple<std::vector<size_t>, int64_t, int64_t>>& pieces,
                       std::vector<int64_t> sizes) {
        std::vector<Piece> all;
        for (const auto& [terms, begin, end] : pieces) all.push_back({terms, begin, end});
        return Sums(std::move(all), std::move(sizes));
      }))
      .def("of", &Sums::of);
  bind_saved_call(py::class_<Recorded>(m, "Recorded")).def_readonly("plan", &Recorded::plan);
  py::class_<Direct>(m, "Direct")
      .def(py::init([](Cell cell, int64_t I, int64_t H, int64_t P, int64_t layers,
                       int64_t directions, bool bias, bool reverse, bool one_step,
                       const Tensors& tensors, py::function record, py::function keep,
                       py::object draw, std::shared_ptr<Program> program,
                       std::shared_ptr<Packed> packed, Format format) {
        Shape shape = {cell, DType::kFloat32, 0, 0, I, H, P, layers, directions, bias, reverse};
        add_program(shape, program.get());
        return Direct(shape, std::move(program), one_step, tensors, std::move(record),
                      std::move(keep), std::move(draw), std::move(packed), format);
      }))
      .def("call",
           [](const Direct& direct, py::handle x, py::handle hx, const py::sequence& weights,
              bool batch_first, bool grad_enabled, int threads, bool bfloat16) {
             const py::none none;
             return direct.call(x, hx, weights, batch_first, grad_enabled, threads, bfloat16,
                                {none, none, none, none});
           })
      .def("call_ragged",
           [](const Direct& direct, py::handle x, py::handle hx, const py::sequence& weights,
              bool batch_first, bool grad_enabled, int threads, py::handle batch_sizes,
              py::handle sorted_indices, py::handle lengths, py::handle resets) {
             const bool bfloat16 = false;
             return direct.call(x, hx, weights, batch_first, grad_enabled, threads, bfloat16,
                                {batch_sizes, sorted_indices, lengths, resets});
           });

  py::class_<Extension>(m, "Extension")
      .def_readonly("name", &Extension::name)
      .def_readonly("isa", &Extension::isa)
      .def_readonly("format", &Extension::format)
      .def_readonly("available", &Extension::available)
      .def_readonly("proven", &Extension::proven)
      .def_readonly("on", &Extension::on);
  m.def("extensions", &extensions);
  m.def("isa_built", &built_isas);
  m.def("isa_available", &available_isas);
  m.def("isa_active", &active_isa);
  m.def("isa_force",
        [](const std::optional<std::string>& name) { name ? force_isa(*name) : unforce_isa(); });
  m.def("build_info", &build_info);
  m.def("processors", &processors);
  m.def("signal_nanoseconds", &signal_now);
  py::class_<Scratch>(m, "Scratch", py::buffer_protocol())
      .def(py::init<int64_t>())
      .def_buffer([](Scratch& own) {
        return py::buffer_info(reinterpret_cast<uint8_t*>(own.data()), own.bytes());
      });
  m.attr("WORTH_LEAVING") = kWorthLeaving;
  m.def("empty_cache", &empty_cache);
  m.attr("hooks") = py::capsule(&kHooks, kHooksName);
}

}  // namespace fastrnn
