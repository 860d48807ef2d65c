// The loop over time of one layer: one launch a step for both directions, two with a projection.
// Compiled once for each precision.
#pragma once

#include <fastrnn_device/launch.h>

#include <stdexcept>

#include "backward_step.h"
#include "forward_step.h"
#include "layer.h"

namespace fastrnn::cuda {

template <class T>
Strided<T> as(const Strided<void>& tensor, int64_t offset = 0) {
  T* base = static_cast<T*>(tensor.base);
  return {base ? base + offset : nullptr, tensor.step, tensor.row};
}

template <class T>
Matrix<T> matrix(const Rows<const T>& rows) {
  return {rows.base, rows.row};
}

template <class C, class P>
class ForwardLoop {
  using T = typename P::T;
  using S = Sum<T>;

 public:
  ForwardLoop(const Sequence& sequence, const ForwardLayer& layer)
      : sequence_(sequence), layer_(layer), H_(layer.shape.H), K_(layer.shape.out()) {}

  void operator()(Launches& launch) const {
    for (int64_t s = 0; s < sequence_.T(); ++s) {
      launch(layer_.directions, [&](int d) { return step(d, s); });
      if constexpr (C::kStates > 1) {
        if (layer_.shape.P) launch(layer_.directions, [&](int d) { return project(d, s); });
      }
    }
  }

 private:
  // Where the hidden state lies that step s begins with, and where the one that it leaves goes.
  const T* state_before(const Forward& of, int64_t s) const {
    return s == 0 ? static_cast<const T*>(of.h0) : between(of, s);
  }
  T* state_after(const Forward& of, int64_t s) const {
    return s + 1 == sequence_.T() ? static_cast<T*>(of.h_n) : between(of, s + 1);
  }
  T* between(const Forward& of, int64_t s) const {
    return static_cast<T*>(of.h) + s % 2 * sequence_.B() * K_;
  }
  template <class U>
  Rows<U> rows_of(const Strided<void>& tensor, int64_t t) const {
    return sequence_.at(as<U>(tensor), t);
  }

  ForwardStep<C, P> step(int d, int64_t s) const {
    const Forward& of = layer_.of[d];
    const bool projects = layer_.shape.P > 0;
    ForwardStep<C, P> step;
    step.rows = sequence_.rows(layer_.shape.reversed(d), s);
    step.size = {sequence_.B(), H_, K_};
    step.padded = sequence_.padded();
    step.h_prev = {state_before(of, s), K_};
    step.w_hh = {static_cast<const T*>(of.w_hh), K_};
    step.b_ih = static_cast<const T*>(of.b_ih);
    step.b_hh = static_cast<const T*>(of.b_hh);
    const int64_t t = step.rows.t;
    step.slots = {rows_of<S>(of.gates, t), rows_of<S>(of.extra, t)};
    step.save = layer_.save;
    step.c = static_cast<S*>(of.c);
    step.c_prev = s == 0 ? static_cast<const S*>(of.c0) : step.c;
    step.cell = rows_of<S>(of.cell, t);
    step.raw = rows_of<T>(of.raw, t);
    if (projects) return step;
    step.h = state_after(of, s);
    step.y = rows_of<T>(of.y, t);
    return step;
  }

  Project<P> project(int d, int64_t s) const {
    const Forward& of = layer_.of[d];
    Project<P> step;
    step.rows = sequence_.rows(layer_.shape.reversed(d), s);
    step.size = {sequence_.B(), K_, H_};
    step.padded = sequence_.padded();
    step.raw = matrix(rows_of<const T>(of.raw, step.rows.t));
    step.w_hr = {static_cast<const T*>(of.w_hr), H_};
    step.h_prev = state_before(of, s);
    step.h = state_after(of, s);
    step.y = rows_of<T>(of.y, step.rows.t);
    return step;
  }

  const Sequence& sequence_;
  const ForwardLayer& layer_;
  const int64_t H_, K_;
};

template <class C, class P>
class BackwardLoop {
  using T = typename P::T;
  using S = Sum<T>;

 public:
  BackwardLoop(const Sequence& sequence, const BackwardLayer& layer)
      : sequence_(sequence), layer_(layer), H_(layer.shape.H), K_(layer.shape.out()) {}

  // Step -1 is where the initial states are.
  void operator()(Launches& launch) const {
    const int64_t last = layer_.initial ? -1 : 0;
    for (int64_t s = sequence_.T() - 1; s >= last; --s) {
      if (layer_.shape.P == 0) {
        launch(layer_.directions, [&](int d) { return step(d, s); });
        continue;
      }
      if constexpr (C::kStates > 1) {
        launch(layer_.directions, [&](int d) { return to_projected(d, s); });
        launch(layer_.directions, [&](int d) { return from_projected(d, s); });
      }
    }
  }

 private:
  template <class U>
  Rows<U> rows_of(const Strided<void>& tensor, int64_t t, int64_t offset = 0) const {
    return sequence_.at(as<U>(tensor, offset), t);
  }

  bool is_last(int64_t s) const { return s + 1 == sequence_.T(); }

  Collect<T> collect(int d, int64_t s) const {
    const Backward& of = layer_.of[d];
    Collect<T> from;
    from.rows = sequence_.rows(layer_.shape.reversed(d), s);
    from.after = sequence_.rows(layer_.shape.reversed(d), s + 1);
    from.padded = sequence_.padded();
    from.K = K_;
    from.d_h = static_cast<S*>(of.d_h);
    from.d_h_after = is_last(s) ? static_cast<const S*>(of.d_h_n) : from.d_h;
    from.d_y = rows_of<const T>(of.d_y, from.rows.t);
    from.h_prev = rows_of<T>(of.h_prev, from.rows.t);
    from.y_before = rows_of<const T>(of.y, from.rows.before);
    from.h0 = static_cast<const T*>(of.h0);
    return from;
  }

  Differentiate<C, T> differentiate(int d, int64_t s) const {
    const Backward& of = layer_.of[d];
    const StepRows rows = sequence_.rows(layer_.shape.reversed(d), s);
    Differentiate<C, T> cell;
    cell.H = H_;
    cell.slots = {rows_of<const S>(of.gates, rows.t), rows_of<const S>(of.extra, rows.t)};
    cell.d_h = layer_.shape.P ? nullptr : static_cast<S*>(of.d_h);
    cell.d_c = static_cast<S*>(of.d_c);
    cell.d_c_after = is_last(s) ? static_cast<const S*>(of.d_c_n) : cell.d_c;
    cell.d_cell = rows_of<const T>(of.d_cell, rows.t);
    cell.cell = rows_of<const S>(of.cell, rows.t);
    cell.cell_before = rows_of<const S>(of.cell, rows.before);
    cell.c0 = static_cast<const S*>(of.c0);
    cell.d_pre = rows_of<T>(of.d_pre, rows.t);
    return cell;
  }

  // The product with what the step after has left, of no length where there is none
  template <class Step>
  void multiply_back(int d, int64_t s, Step& step) const {
    const Backward& of = layer_.of[d];
    const int64_t after = sequence_.step(layer_.shape.reversed(d), s + 1);
    const int64_t length = C::kGates * H_;
    step.size = {sequence_.B(), K_, after < 0 ? 0 : length};
    step.d_after = matrix(rows_of<const T>(of.d_pre, after, C::kHiddenSlot * H_));
    step.w_hh = {static_cast<const T*>(of.w_hh), length};
    step.collect = collect(d, s);
  }

  BackwardStep<C, P> step(int d, int64_t s) const {
    BackwardStep<C, P> step;
    multiply_back(d, s, step);
    step.differentiate = differentiate(d, s);
    return step;
  }

  BackwardToProjected<P> to_projected(int d, int64_t s) const {
    BackwardToProjected<P> step;
    multiply_back(d, s, step);
    step.d_projected = rows_of<T>(layer_.of[d].d_projected, step.collect.rows.t);
    return step;
  }

  BackwardFromProjected<C, P> from_projected(int d, int64_t s) const {
    const Backward& of = layer_.of[d];
    BackwardFromProjected<C, P> step;
    step.size = {sequence_.B(), H_, K_};
    step.collect = collect(d, s);
    step.d_projected = matrix(rows_of<const T>(of.d_projected, step.collect.rows.t));
    step.w_hr = {static_cast<const T*>(of.w_hr), K_};
    step.differentiate = differentiate(d, s);
    return step;
  }

  const Sequence& sequence_;
  const BackwardLayer& layer_;
  const int64_t H_, K_;
};

template <class P, template <class, class> class Loop, class Layer>
void run_loop(const Sequence& sequence, const Layer& layer, Stream stream) {
  if (sequence.B() == 0) return;
  Launches launches(stream);
  switch (layer.shape.cell) {
    case Cell::kLstm:
      return Loop<Lstm, P>(sequence, layer)(launches);
    case Cell::kGru:
      return Loop<Gru, P>(sequence, layer)(launches);
    case Cell::kRnnTanh:
      return Loop<Rnn<Tanh>, P>(sequence, layer)(launches);
    case Cell::kRnnRelu:
      return Loop<Rnn<Relu>, P>(sequence, layer)(launches);
    default:
      throw std::invalid_argument("this cell has no CUDA kernels");
  }
}

template <class P>
void run_in(const Sequence& sequence, const ForwardLayer& layer, Stream stream) {
  run_loop<P, ForwardLoop>(sequence, layer, stream);
}
template <class P>
void run_in(const Sequence& sequence, const BackwardLayer& layer, Stream stream) {
  run_loop<P, BackwardLoop>(sequence, layer, stream);
}

}  // namespace fastrnn::cuda

// At the end of a source of one precision: its P of product.h, and the name that layer.cpp calls.
#define FASTRNN_PRECISION(name, P)                                                 \
  namespace fastrnn::cuda {                                                        \
  void name(const Sequence& sequence, const ForwardLayer& layer, Stream stream) {  \
    run_in<P>(sequence, layer, stream);                                            \
  }                                                                                \
  void name(const Sequence& sequence, const BackwardLayer& layer, Stream stream) { \
    run_in<P>(sequence, layer, stream);                                            \
  }                                                                                \
  }
