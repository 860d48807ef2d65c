// Calls of the engine on what plain.h has, on one thread.
#pragma once

#include <cstring>
#include <memory>

#include "engine/backward/backward.h"
#include "engine/call/plan.h"
#include "engine/forward/forward.h"
#include "engine/forward/freeze.h"
#include "plain.h"

namespace fastrnn::plain {

template <class Real>
constexpr DType kDType = std::is_same_v<Real, float> ? DType::kFloat32 : DType::kFloat64;

template <class Real>
Shape shape_of(Cell cell, const Sizes& n, const Program* program = nullptr) {
  Shape shape;
  shape.cell = cell;
  shape.dtype = kDType<Real>;
  shape.T = n.T;
  shape.B = n.B;
  shape.I = n.I;
  shape.H = n.H;
  shape.program = program;
  shape.states = cell == Cell::kLstm ? 2 : 1;
  return shape;
}

// The arguments in the call's precision, and their addresses
template <class Real>
struct Given {
  Given() = default;
  explicit Given(const Arguments& given) {
    for (int i = 0; i < kArguments; ++i) all[i] = as<Real>(given.all[i]);
  }
  template <class Of>
  Weights<Of> weights() {
    return {all[kWIh].data(), all[kWHh].data(), all[kBIh].data(), all[kBHh].data()};
  }
  std::vector<Real> all[kArguments];
};

// One call, forward and if it is saved backward
template <class Real>
class Call {
 public:
  Call(const Shape& shape, const Arguments& arguments, const KernelTable& kernels, bool save,
       std::shared_ptr<const Packed> packed = nullptr, Format format = Format::kPlain)
      : given_(arguments),
        plan_(shape, Batch(shape.T, shape.B, {}, {}, false, nullptr), options(save, packed, format),
              kernels),
        saved_(plan_.saved_bytes) {}

  Results forward() { return forward_with(given_.template weights<const Real>()); }

  // The same with matrices of bfloat16, whose numbers they have to be
  Results forward_of_halves() {
    const auto w_ih = upper_halves(given_.all[kWIh]), w_hh = upper_halves(given_.all[kWHh]);
    Weights<const Real> weights = given_.template weights<const Real>();
    weights.w_ih = reinterpret_cast<const Real*>(w_ih.data());
    weights.w_hh = reinterpret_cast<const Real*>(w_hh.data());
    weights.source = Source::kBfloat16;
    return forward_with(weights);
  }

  // After forward
  Arguments backward(const Results& gradients) {
    const Shape& n = plan_.shape;
    const auto d_y = as<Real>(gradients.y), d_h = as<Real>(gradients.h),
               d_c = as<Real>(gradients.c);
    Given<Real> found;
    for (int i = 0; i < kArguments; ++i) found.all[i].resize(given_.all[i].size());
    std::vector<char> workspace(plan_.backward_bytes);
    const Weights<const Real> weights = given_.template weights<const Real>();
    const Weights<Real> d_weights = found.template weights<Real>();
    BackwardArgs<Real> args;
    args.x = {given_.all[kX].data(), n.B * n.I, n.I};
    args.d_y = {d_y.data(), n.B * n.H, n.H};
    args.d_x = {found.all[kX].data(), n.B * n.I, n.I};
    set_states(args.initial, given_.all[kH0], given_.all[kC0]);
    set_states(args.d_last, d_h, d_c);
    set_states(args.d_initial, found.all[kH0], found.all[kC0]);
    args.weights = &weights;
    args.d_weights = &d_weights;
    args.saved = saved_.data();
    args.workspace = workspace.data();
    fastrnn::backward(plan_, args);
    if (n.states == 1) found.all[kC0] = d_c;
    Arguments all;
    for (int i = 0; i < kArguments; ++i) all.all[i] = doubles(found.all[i]);
    return all;
  }

 private:
  Results forward_with(const Weights<const Real>& weights) {
    const Shape& n = plan_.shape;
    std::vector<Real> y(n.T * n.B * n.H), h(n.B * n.H), c(n.B * n.H);
    std::vector<char> workspace(plan_.forward_bytes);
    ForwardArgs<Real> args;
    args.x = {given_.all[kX].data(), n.B * n.I, n.I};
    args.y = {y.data(), n.B * n.H, n.H};
    set_states(args.initial, given_.all[kH0], given_.all[kC0]);
    set_states(args.last, h, c);
    args.weights = plan_.packed ? nullptr : &weights;
    args.saved = plan_.save ? saved_.data() : nullptr;
    args.workspace = workspace.data();
    fastrnn::forward(plan_, args);
    if (n.states == 1) c = given_.all[kC0];
    return {doubles(y), doubles(h), doubles(c)};
  }

  static PlanOptions options(bool save, std::shared_ptr<const Packed> packed, Format format) {
    PlanOptions all;
    all.format = format;
    all.save = save;
    all.packed = std::move(packed);
    return all;
  }

  static std::vector<UpperHalf> upper_halves(const std::vector<float>& numbers) {
    std::vector<UpperHalf> all;
    for (float number : numbers) {
      uint32_t bits;
      std::memcpy(&bits, &number, sizeof bits);
      all.push_back({static_cast<uint16_t>(bits >> 16)});
    }
    return all;
  }

  static Doubles doubles(const std::vector<Real>& numbers) {
    return Doubles(numbers.begin(), numbers.end());
  }

  template <class Pointer, class Numbers>
  void set_states(Pointer (&states)[kMostStates], Numbers& h, Numbers& c) const {
    states[kHidden] = h.data();
    if (plan_.shape.states > 1) states[1] = c.data();
  }

  Given<Real> given_;
  Plan plan_;
  std::vector<char> saved_;
};

}  // namespace fastrnn::plain
