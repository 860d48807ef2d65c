#include "calls.h"

#include <pybind11/pybind11.h>

#include <string>

#include "engine/backward/backward.h"
#include "engine/forward/forward.h"
#include "scratch.h"

namespace py = pybind11;

namespace fastrnn {
namespace {

template <class Real>
std::vector<const Real*> pointers(const Addresses& addresses) {
  std::vector<const Real*> all;
  for (Address address : addresses) all.push_back(at<const Real>(address));
  return all;
}

// The states after the hidden one lie side by side.
template <class Real>
void set_states(const Shape& shape, Real* (&states)[kMostStates], Address h, Address c) {
  states[kHidden] = at<Real>(h);
  for (int s = 1; c && s < shape.states; ++s) states[s] = at<Real>(c) + shape.state_offset(s);
}

template <class Real>
View<Real> view(const Plan& plan, const Strided& tensor) {
  const auto [address, step, row] = tensor;
  return plan.batch.caller_view(at<Real>(address), step, row);
}

}  // namespace

void expect_count(const char* name, size_t got, size_t expected) {
  if (got == expected) return;
  throw py::value_error(std::string(name) + ": expected " + std::to_string(expected) +
                        " addresses, got " + std::to_string(got));
}

namespace {

// Calls run(args, zero) without the GIL; args have what both passes read, zero is of their type.
template <template <class> class Args, class From, class Run>
void run_pass(const Plan& plan, const From& from, int64_t workspace, Run run) {
  expect_count("weights", from.weights.size(), plan.packed ? 0 : weight_count(plan.shape));
  expect_count("masks", from.masks.size(), plan.dropout ? plan.shape.layers - 1 : 0);
  py::gil_scoped_release release;
  with_dtype(plan.shape.dtype, [&](auto zero) {
    using Real = decltype(zero);
    std::vector<Weights<const Real>> all_weights;
    if (!plan.packed) all_weights = weights_at<const Real>(plan.shape, from.weights, from.source);
    const auto all_masks = pointers<Real>(from.masks);
    const Scratch scratch(workspace);
    Args<Real> args;
    args.x = view<const Real>(plan, from.x);
    set_states(plan.shape, args.initial, from.h0, from.c0);
    args.weights = all_weights.data();
    args.masks = all_masks.data();
    args.workspace = scratch.data();
    run(args, zero);
  });
}

}  // namespace

void run_forward(const Plan& plan, const ForwardAddresses& from) {
  run_pass<ForwardArgs>(plan, from, plan.forward_bytes, [&](auto& args, auto zero) {
    using Real = decltype(zero);
    args.y = view<Real>(plan, from.y);
    set_states(plan.shape, args.last, from.h_n, from.c_n);
    set_states(plan.shape, args.all, from.h_all, from.c_all);
    args.saved = plan.save ? at<char>(from.saved) : nullptr;
    forward(plan, args);
  });
}

void run_backward(const Plan& plan, const BackwardAddresses& from) {
  expect_count("d_weights", from.d_weights.size(), weight_count(plan.shape));
  run_pass<BackwardArgs>(plan, from, plan.backward_bytes, [&](auto& args, auto zero) {
    using Real = decltype(zero);
    const auto all_d_weights = weights_at<Real>(plan.shape, from.d_weights);
    args.d_y = view<const Real>(plan, from.d_y);
    args.d_x = view<Real>(plan, from.d_x);
    set_states(plan.shape, args.d_last, from.d_h_n, from.d_c_n);
    set_states(plan.shape, args.d_all, from.d_h_all, from.d_c_all);
    set_states(plan.shape, args.d_initial, from.d_h0, from.d_c0);
    args.d_weights = all_d_weights.data();
    args.saved = at<const char>(from.saved);
    backward(plan, args);
  });
}

}  // namespace fastrnn
