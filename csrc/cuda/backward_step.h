// One step backward: what the step after sends back through w_hh, and the cell's derivative, in one
// launch; with a projection in two.
#pragma once

#include "cells.h"
#include "product.h"
#include "rows.h"
#include "slots.h"

namespace fastrnn::cuda {

// The gradient of a step's output: from the step after, from above and, once the row's own last
// step is reached, of the final state.
template <class T>
struct Collect {
  using S = Sum<T>;

  StepRows rows, after;  // this step; the one that was differentiated before it
  bool padded = false;   // rows that take no part have room in what is written, for zeros
  int64_t K = 0;
  const S* d_h_after = nullptr;  // [B, K] what the step after has left of d_h; null: zeros
  S* d_h = nullptr;              // [B, K] what is known of the running state's gradient
  Rows<const T> d_y;             // or null
  Rows<T> h_prev;  // out: what the step's product took, for the gradient of w_hh; or null
  Rows<const T> y_before;
  const T* h0 = nullptr;  // [B, K] or null

  // Does a gradient reach row r from the step after?
  FASTRNN_DEVICE bool receives(int64_t r) const { return after.active(r) && !after.forgets(r); }
  FASTRNN_DEVICE bool is_cut(int64_t r) const { return after.active(r) && after.forgets(r); }

  // Is there memory for row r in the tensors of this step?
  FASTRNN_DEVICE bool has_room(int64_t r) const {
    return rows.active(r) || (padded && rows.count > 0);
  }

  // product: d_pre of the step after times w_hh. Of a row that takes no part, the gradient of the
  // state that it keeps.
  FASTRNN_DEVICE S operator()(int64_t r, int64_t k, S product) const {
    S d = d_h_after && !is_cut(r) ? d_h_after[r * K + k] : S{0};
    if (receives(r)) d += product;
    d_h[r * K + k] = d;
    const bool active = rows.active(r);
    if (h_prev && has_room(r)) h_prev.at(r, k) = active ? before(r, k) : T{};
    return active && d_y ? d + widen(d_y.at(r, k)) : d;
  }

  // What forward left is on its way while the product is computed.
  template <class Block>
  FASTRNN_DEVICE void prefetch(Block& block, int64_t r, int64_t k) const {
    if (!rows.active(r)) return;
    if (d_y) block.prefetch(&d_y.at(r, k));
    if (h_prev && rows.continues(r)) block.prefetch(&y_before.at(r, k));
  }

  // The hidden state that the step began with
  FASTRNN_DEVICE T before(int64_t r, int64_t k) const {
    if (rows.forgets(r)) return T{};
    if (rows.continues(r)) return y_before.at(r, k);
    return h0 ? h0[r * K + k] : T{};
  }
};

// The cell's derivative
template <class C, class T>
struct Differentiate {
  using S = Sum<T>;

  int64_t H = 0;
  SlotRows<C, const S> slots;
  S* d_h = nullptr;  // [B, H] the running gradient; null with a projection, which has it elsewhere
  const S* d_c_after = nullptr;  // [B, H] as d_h_after
  S* d_c = nullptr;              // [B, H]
  Rows<const T> d_cell;          // gradient of this step's cell state from outside, or null
  Rows<const S> cell, cell_before;
  const S* c0 = nullptr;  // [B, H] or null
  Rows<T> d_pre;          // out: [B, slots * H]

  FASTRNN_DEVICE void operator()(const Collect<T>& from, int64_t r, int64_t j, S d_state) const {
    const StepRows& rows = from.rows;
    S d_c_here = 0;
    if constexpr (C::kStates > 1) {
      if (d_c_after && !from.is_cut(r)) d_c_here = d_c_after[r * H + j];
    }
    Lanes<C, S> at;
    if (rows.active(r)) {
      fill(from, r, j, at, d_c_here);
      apply_backward(at, d_state, d_c_here);
      if (d_h) d_h[r * H + j] = d_state;
    }
    if constexpr (C::kStates > 1) d_c[r * H + j] = d_c_here;
    if (!from.has_room(r)) return;
    each_slot<C>([&](auto slot) {
      const S d = rows.active(r) ? at.pre[slot.value] : S{0};
      d_pre.at(r, slot.value * H + j) = narrow<T>(d);
    });
  }

  // As that of Collect
  template <class Block>
  FASTRNN_DEVICE void prefetch(Block& block, const StepRows& rows, int64_t r, int64_t j) const {
    if (!rows.active(r)) return;
    if constexpr (C::kSavesGates) {
      each_slot<C>([&](auto slot) { block.prefetch(&slots.template at<slot.value>(r, j, H)); });
    } else {
      block.prefetch(&slots.template at<0>(r, j, H));
    }
    if constexpr (C::kStates > 1) {
      block.prefetch(&cell.at(r, j));
      if (rows.continues(r)) block.prefetch(&cell_before.at(r, j));
      if (d_cell) block.prefetch(&d_cell.at(r, j));
    }
  }

 private:
  FASTRNN_DEVICE void fill(const Collect<T>& from, int64_t r, int64_t j, Lanes<C, S>& at,
                           S& d_c_here) const {
    if constexpr (C::kSavesGates) {
      each_slot<C>(
          [&](auto slot) { at.saved[slot.value] = slots.template at<slot.value>(r, j, H); });
    } else {
      at.saved[0] = slots.template at<0>(r, j, H);
    }
    if constexpr (C::kReadsPreviousHidden) at.h_prev = widen(from.before(r, j));
    if constexpr (C::kStates > 1) {
      at.c = cell.at(r, j);
      at.c_prev = before(from.rows, r, j);
      if (d_cell) d_c_here += widen(d_cell.at(r, j));
    }
  }

  // The cell state that the step began with
  FASTRNN_DEVICE S before(const StepRows& rows, int64_t r, int64_t j) const {
    if (rows.forgets(r)) return 0;
    if (rows.continues(r)) return cell_before.at(r, j);
    return c0 ? c0[r * H + j] : S{0};
  }
};

// Without a projection. A step with no rows is the one before the first: it leaves d_h and d_c as
// the gradients of the initial states.
template <class C, class P>
struct BackwardStep {
  using Policy = P;
  using T = typename P::T;
  static constexpr int kGroups = 1;

  ProductSize size;   // [B, G * H] x [H, G * H]^T
  Matrix<T> d_after;  // d_pre of the step after, the slots of the hidden state's product
  Matrix<T> w_hh;     // transposed
  Collect<T> collect;
  Differentiate<C, T> differentiate;

  template <class Block>
  FASTRNN_DEVICE void operator()(Block& block) const {
    each_element<kGroups>(block, size, [&](int64_t r, int64_t j, auto) {
      collect.prefetch(block, r, j);
      differentiate.prefetch(block, collect.rows, r, j);
    });
    multiply_tile<P, kGroups>(
        block, size,
        [&](int64_t r) { return collect.receives(r) ? d_after.base + r * d_after.row : nullptr; },
        d_after.aligned, w_hh);
    each_element<kGroups>(block, size, [&](int64_t r, int64_t j, auto product) {
      differentiate(collect, r, j, collect(r, j, product(0)));
    });
  }
};

// With one: first the gradient of the projected output,
template <class P>
struct BackwardToProjected {
  using Policy = P;
  using T = typename P::T;
  static constexpr int kGroups = 1;

  ProductSize size;  // [B, G * H] x [P, G * H]^T
  Matrix<T> d_after;
  Matrix<T> w_hh;  // transposed
  Collect<T> collect;
  Rows<T> d_projected;  // out: [B, P]

  template <class Block>
  FASTRNN_DEVICE void operator()(Block& block) const {
    each_element<kGroups>(block, size,
                          [&](int64_t r, int64_t p, auto) { collect.prefetch(block, r, p); });
    multiply_tile<P, kGroups>(
        block, size,
        [&](int64_t r) { return collect.receives(r) ? d_after.base + r * d_after.row : nullptr; },
        d_after.aligned, w_hh);
    each_element<kGroups>(block, size, [&](int64_t r, int64_t p, auto product) {
      const auto d = collect(r, p, product(0));
      const bool active = collect.rows.active(r);
      if (active) collect.d_h[r * collect.K + p] = 0;  // the rest passes through the product
      if (collect.has_room(r)) d_projected.at(r, p) = active ? narrow<T>(d) : T{};
    });
  }
};

// then what it means for the cell.
template <class C, class P>
struct BackwardFromProjected {
  using Policy = P;
  using T = typename P::T;
  static constexpr int kGroups = 1;

  ProductSize size;       // [B, P] x [H, P]^T
  Matrix<T> d_projected;  // of this step
  Matrix<T> w_hr;         // transposed
  Collect<T> collect;
  Differentiate<C, T> differentiate;

  template <class Block>
  FASTRNN_DEVICE void operator()(Block& block) const {
    each_element<kGroups>(block, size, [&](int64_t r, int64_t j, auto) {
      differentiate.prefetch(block, collect.rows, r, j);
    });
    multiply_tile<P, kGroups>(
        block, size,
        [&](int64_t r) {
          return collect.rows.active(r) ? d_projected.base + r * d_projected.row : nullptr;
        },
        d_projected.aligned, w_hr);
    each_element<kGroups>(block, size, [&](int64_t r, int64_t j, auto product) {
      differentiate(collect, r, j, product(0));
    });
  }
};

}  // namespace fastrnn::cuda
