#include "plans.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "calls.h"
#include "engine/kernels/dispatch.h"
#include "engine/schedule/decide.h"

namespace py = pybind11;
using py::literals::operator""_a;

namespace fastrnn {
namespace {

ProgramPass pass_of(const py::list& given) {
  ProgramPass pass;
  for (py::handle stage : given) {
    const auto [product, registers, code] = stage.cast<std::tuple<int, int, py::list>>();
    pass.product.push_back(product);
    pass.stages.push_back({registers, {}});
    ProgramStage& last = pass.stages.back();
    for (py::handle own : code) {
      const auto [op, to, a, b, c] = own.cast<std::tuple<std::string, int, int, int, int>>();
      if (op == "each_unit") {
        last.of_rows.swap(last.code);
      } else {
        last.code.push_back(make_instruction(op, to, a, b, c));
      }
    }
  }
  return pass;
}

std::vector<Slots> slots_of(const std::vector<std::pair<int, int>>& given) {
  std::vector<Slots> all;
  for (const auto& [first, count] : given) all.push_back({first, count});
  return all;
}

std::shared_ptr<Program> make_program(int gates, int states, int held, int slots,
                                      std::vector<int> gate_of_slot,
                                      std::pair<int, int> input_slots,
                                      const std::vector<std::pair<int, int>>& products, int vectors,
                                      const std::vector<std::pair<int64_t, bool>>& extras,
                                      int64_t heads, bool recurrent, std::vector<double> initial,
                                      std::vector<double> constants, int kept, int saved, int temps,
                                      std::pair<int, int> sums, const py::list& forward,
                                      const py::list& forward_saving, const py::list& backward) {
  auto program = std::make_shared<Program>();
  program->gates = gates;
  program->states = states;
  program->held = held;
  program->slots = slots;
  program->gate_of_slot = std::move(gate_of_slot);
  program->input = {input_slots.first, input_slots.second};
  program->products = slots_of(products);
  program->vectors = vectors;
  for (const auto& [offset, per_unit] : extras) program->extras.push_back({offset, per_unit});
  program->heads = heads;
  program->recurrent = recurrent;
  program->initial = std::move(initial);
  program->constants = std::move(constants);
  program->kept = kept;
  program->saved = saved;
  program->temps = temps;
  program->forward_sums = sums.first;
  program->backward_sums = sums.second;
  program->forward = pass_of(forward);
  program->forward_saving = pass_of(forward_saving);
  program->backward = pass_of(backward);
  program->complete();
  return program;
}

}  // namespace

std::vector<int64_t> copy_integers(Address address, int64_t n) {
  const int64_t* first = at<const int64_t>(address);
  return first ? std::vector<int64_t>(first, first + n) : std::vector<int64_t>();
}

void add_program(Shape& shape, const Program* program) {
  if (!program) return;
  shape.cell = Cell::kProgram;
  shape.program = program;
  shape.states = program->states;
  shape.heads = program->heads;
  for (const Extra& extra : program->extras)
    shape.extras = std::max(shape.extras, extra.offset + (extra.per_unit ? shape.H : 1));
  if (shape.H % program->heads)
    throw py::value_error("heads: expected a divisor of H, " + std::to_string(shape.H) + ", got " +
                          std::to_string(program->heads));
  if (shape.P > 0) program->check_projection();
}

namespace {

Plan make_plan(Cell cell, DType dtype, int64_t T, int64_t B, int64_t I, int64_t H, int64_t P,
               int64_t layers, int64_t directions, bool bias, bool reverse, bool save, bool dropout,
               bool states, int threads, bool packed, Address batch_sizes, Address row_index,
               Address resets, const std::string& isa, const std::shared_ptr<Program>& program,
               Format format) {
  Shape shape = {cell, dtype, T, B, I, H, P, layers, directions, bias, reverse};
  add_program(shape, program.get());
  PlanOptions options;
  options.format = format;
  options.save = save;
  options.dropout = dropout;
  options.states = states;
  options.threads = threads;
  Batch batch(T, B, copy_integers(batch_sizes, T), copy_integers(row_index, B), packed,
              at<const bool>(resets));
  Plan plan(shape, std::move(batch), options, table_of(isa));
  plan.program = program;
  return plan;
}

void forward_at(const Plan& plan, const Strided& x, const Strided& y, Address h0, Address c0,
                Address h_n, Address c_n, Address h_all, Address c_all, Addresses weights,
                Addresses masks, Address saved) {
  ForwardAddresses from;
  from.x = x;
  from.y = y;
  from.h0 = h0;
  from.c0 = c0;
  from.h_n = h_n;
  from.c_n = c_n;
  from.h_all = h_all;
  from.c_all = c_all;
  from.weights = std::move(weights);
  from.masks = std::move(masks);
  from.saved = saved;
  run_forward(plan, from);
}

void backward_at(const Plan& plan, const Strided& x, const Strided& d_y, const Strided& d_x,
                 Address h0, Address c0, Address d_h_n, Address d_c_n, Address d_h_all,
                 Address d_c_all, Address d_h0, Address d_c0, Addresses weights,
                 Addresses d_weights, Addresses masks, Address saved) {
  BackwardAddresses from;
  from.x = x;
  from.d_y = d_y;
  from.d_x = d_x;
  from.h0 = h0;
  from.c0 = c0;
  from.d_h_n = d_h_n;
  from.d_c_n = d_c_n;
  from.d_h_all = d_h_all;
  from.d_c_all = d_c_all;
  from.d_h0 = d_h0;
  from.d_c0 = d_c0;
  from.weights = std::move(weights);
  from.d_weights = std::move(d_weights);
  from.masks = std::move(masks);
  from.saved = saved;
  run_backward(plan, from);
}

// ---- what is decided, as plain values ----

const char* name_of(Reason reason) {
  switch (reason) {
    case Reason::kNoChoice:
      return "no choice";
    case Reason::kWeightsOnce:
      return "weights once";
    case Reason::kFewRows:
      return "few rows";
    case Reason::kCycles:
      return "cycles";
  }
  return "";
}

py::dict as_dict(const Choice& choice) {
  return py::dict("yes"_a = choice.yes, "reason"_a = name_of(choice.reason),
                  "cycles"_a = choice.cycles, "instead"_a = choice.instead);
}

py::dict as_dict(const CrewDecision& crew) {
  return py::dict("threads"_a = crew.threads, "row_groups"_a = crew.split.rows,
                  "unit_groups"_a = crew.split.units, "deals"_a = crew.split.deals,
                  "cycles"_a = crew.cycles, "barrier"_a = crew.barrier,
                  "fused"_a = as_dict(crew.fused), "block_rows"_a = crew.block_rows,
                  "helped_steps"_a = crew.helped_steps, "piece_steps"_a = crew.piece_steps);
}

py::list as_list(const PassDecision& pass, int64_t layers) {
  py::list all;
  for (int64_t i = 0; i < layers; ++i) {
    const LayerDecision& layer = pass.layer(i);
    py::list crews;
    for (int c = 0; c < layer.crews(); ++c) crews.append(as_dict(layer.crew[c]));
    all.append(py::dict("side_by_side"_a = as_dict(layer.side_by_side), "crews"_a = crews));
  }
  return all;
}

template <class Real>
py::dict panel_sizes(const Plan& plan) {
  const Panels<Real> panels(plan);
  const int64_t bytes = panels.gate_width * int64_t{sizeof(Real)};
  py::list of_layers;
  for (int64_t i = 0; i < plan.shape.layers; ++i)
    of_layers.append(bytes * (plan.shape.in(i) + plan.shape.out()));
  return py::dict("count"_a = panels.gates, "units"_a = panels.unit, "columns"_a = panels.column,
                  "tile_rows"_a = panels.cell.tallest, "bytes"_a = of_layers);
}

py::dict explain(const Plan& plan) {
  py::dict found("threads"_a = plan.threads, "cycles"_a = plan.forward_cycles,
                 "weights_once"_a = plan.weights_once, "weights_in_place"_a = plan.weights_in_place,
                 "saved_bytes"_a = plan.saved_bytes, "forward_bytes"_a = plan.forward_bytes,
                 "backward_bytes"_a = plan.backward_bytes);
  with_dtype(plan.shape.dtype,
             [&](auto zero) { found["panels"] = panel_sizes<decltype(zero)>(plan); });
  const int64_t layers = plan.shape.layers;
  found["forward"] = as_list(decide_forward(plan, plan.threads), layers);
  found["backward"] = plan.save ? as_list(decide_backward(plan, plan.threads), layers) : py::list();
  return found;
}

}  // namespace

void bind_plan(py::module_ m) {
  py::class_<Program, std::shared_ptr<Program>>(m, "Program")
      .def(py::init(&make_program), py::kw_only(), "gates"_a, "states"_a, "held"_a, "slots"_a,
           "gate_of_slot"_a, "input_slots"_a, "products"_a, "vectors"_a, "extras"_a, "heads"_a,
           "recurrent"_a, "initial"_a, "constants"_a, "kept"_a, "saved"_a, "temps"_a, "sums"_a,
           "forward"_a, "forward_saving"_a, "backward"_a);
  py::class_<Plan>(m, "Plan")
      .def(py::init(&make_plan), py::kw_only(), "cell"_a, "dtype"_a, "T"_a, "B"_a, "I"_a, "H"_a,
           "P"_a = 0, "layers"_a = 1, "directions"_a = 1, "bias"_a = true, "reverse"_a = false,
           "save"_a = false, "dropout"_a = false, "states"_a = false, "threads"_a,
           "packed"_a = false, "batch_sizes"_a = 0, "row_index"_a = 0, "resets"_a = 0, "isa"_a,
           "program"_a = nullptr, "format"_a = Format::kPlain)
      .def_property_readonly("dtype", [](const Plan& plan) { return plan.shape.dtype; })
      .def_readonly("saved_bytes", &Plan::saved_bytes)
      .def("explain", &explain)
      .def("forward", &forward_at, py::kw_only(), "x"_a, "y"_a, "h0"_a, "c0"_a, "h_n"_a, "c_n"_a,
           "h_all"_a, "c_all"_a, "weights"_a, "masks"_a, "saved"_a)
      .def("backward", &backward_at, py::kw_only(), "x"_a, "d_y"_a, "d_x"_a, "h0"_a, "c0"_a,
           "d_h_n"_a, "d_c_n"_a, "d_h_all"_a, "d_c_all"_a, "d_h0"_a, "d_c0"_a, "weights"_a,
           "d_weights"_a, "masks"_a, "saved"_a);
}

}  // namespace fastrnn
