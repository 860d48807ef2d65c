// One step forward, product and equations in one launch, and the projection of an LSTM in another.
#pragma once

#include "cells.h"
#include "product.h"
#include "rows.h"
#include "slots.h"

namespace fastrnn::cuda {

// h * w_hh^T and the cell. States run in buffers of their own, so a row that takes no part in a
// step keeps what it has.
template <class C, class P>
struct ForwardStep {
  using Policy = P;
  using T = typename P::T;
  using S = Sum<T>;
  static constexpr int kGroups = C::kGates;

  StepRows rows;
  ProductSize size;     // [B, K] x [G * H, K]^T
  bool padded = false;  // rows that take no part have room in the outputs, for zeros
  Matrix<T> h_prev;     // [B, K]; without a base: zeros
  Matrix<T> w_hh;
  const T* b_ih = nullptr;  // [G * H], as b_hh; or null
  const T* b_hh = nullptr;
  SlotRows<C, S> slots;  // in: x * w_ih^T; out: what backward needs
  bool save = false;
  const S* c_prev = nullptr;  // [B, H]; null: zeros
  S* c = nullptr;             // [B, H] the next one, may be where c_prev is
  Rows<S> cell;               // this step's cell state; or null
  T* h = nullptr;             // [B, H] the next running state; or null, as with a projection
  Rows<T> y;                  // null with a projection
  Rows<T> raw;                // h before a projection, or null

  template <class Block>
  FASTRNN_DEVICE void operator()(Block& block) const {
    each_element<kGroups>(block, size, [&](int64_t r, int64_t j, auto) { prefetch(block, r, j); });
    multiply_tile<P, kGroups>(
        block, size, [&](int64_t r) { return reads(r) ? h_prev.base + r * h_prev.row : nullptr; },
        h_prev.aligned, w_hh);
    each_element<kGroups>(block, size,
                          [&](int64_t r, int64_t j, auto product) { apply(r, j, product); });
  }

 private:
  FASTRNN_DEVICE bool reads(int64_t r) const {
    return rows.active(r) && !rows.forgets(r) && h_prev.base;
  }

  // What was there before the loop began is on its way while the product is computed.
  template <class Block>
  FASTRNN_DEVICE void prefetch(Block& block, int64_t r, int64_t j) const {
    if (!rows.active(r)) return;
    each_slot<C>([&](auto slot) {
      constexpr int s = slot.value;
      if constexpr (Slot<C, s>::kFromInput) block.prefetch(&slots.template at<s>(r, j, size.units));
    });
  }

  template <class Product>
  FASTRNN_DEVICE void apply(int64_t r, int64_t j, Product product) const {
    const int64_t H = size.units;
    if (!rows.active(r)) return keep(r, j);
    Lanes<C, S> at;
    each_slot<C>([&](auto slot) {
      constexpr int s = slot.value;
      const int64_t gate = Slot<C, s>::kGate;
      S sum = 0;
      if constexpr (Slot<C, s>::kFromInput) {
        sum += slots.template at<s>(r, j, H);
        if (b_ih) sum += widen(b_ih[gate * H + j]);
      }
      if constexpr (Slot<C, s>::kFromHidden) {
        if (b_hh) sum += widen(b_hh[gate * H + j]);
        sum += product(gate);
      }
      at.pre[s] = sum;
    });
    if constexpr (C::kReadsPreviousHidden)
      at.h_prev = reads(r) ? widen(h_prev.base[r * h_prev.row + j]) : S{0};
    if constexpr (C::kStates > 1) at.c_prev = c_prev && !rows.forgets(r) ? c_prev[r * H + j] : S{0};
    const T new_h = narrow<T>(apply_forward(at));
    if constexpr (C::kStates > 1) {
      c[r * H + j] = at.c;
      if (cell) cell.at(r, j) = at.c;
    }
    if (save)
      each_slot<C>(
          [&](auto slot) { slots.template at<slot.value>(r, j, H) = at.saved[slot.value]; });
    if (h) h[r * H + j] = new_h;
    if (y) y.at(r, j) = new_h;
    if (raw) raw.at(r, j) = new_h;
  }

  FASTRNN_DEVICE void keep(int64_t r, int64_t j) const {
    if (h) h[r * size.units + j] = h_prev.base ? h_prev.base[r * h_prev.row + j] : T{};
    if constexpr (C::kStates > 1) {
      if (c != c_prev) c[r * size.units + j] = c_prev ? c_prev[r * size.units + j] : S{0};
    }
    if (!padded) return;
    if (y) y.at(r, j) = T{};
    if (raw) raw.at(r, j) = T{};
    if constexpr (C::kStates > 1) {
      if (cell) cell.at(r, j) = 0;
    }
  }
};

// y = raw * w_hr^T
template <class P>
struct Project {
  using Policy = P;
  using T = typename P::T;
  static constexpr int kGroups = 1;

  StepRows rows;
  ProductSize size;  // [B, H] x [P, H]^T
  bool padded = false;
  Matrix<T> raw;
  Matrix<T> w_hr;
  const T* h_prev = nullptr;  // [B, P]; null: zeros
  T* h = nullptr;             // [B, P] or null
  Rows<T> y;

  template <class Block>
  FASTRNN_DEVICE void operator()(Block& block) const {
    multiply_tile<P, kGroups>(
        block, size, [&](int64_t r) { return rows.active(r) ? raw.base + r * raw.row : nullptr; },
        raw.aligned, w_hr);
    each_element<kGroups>(block, size, [&](int64_t r, int64_t p, auto product_of) {
      const bool active = rows.active(r);
      const int64_t at = r * size.units + p;
      const T new_h = active ? narrow<T>(product_of(0)) : h_prev ? h_prev[at] : T{};
      if (h) h[at] = new_h;
      if (active || padded) y.at(r, p) = active ? new_h : T{};
    });
  }
};

}  // namespace fastrnn::cuda
