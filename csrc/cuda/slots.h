// A cell's slots, known at compile time, and where they lie in memory.
#pragma once

#include "cells.h"
#include "rows.h"

namespace fastrnn::cuda {

template <class C, int kSlot>
struct Slot {
  static constexpr int kGate = C::kGateOfSlot[kSlot];
  static constexpr bool kFromInput = kSlot >= C::kInputSlot && kSlot < C::kInputSlot + C::kGates;
  static constexpr bool kFromHidden = kSlot >= C::kHiddenSlot && kSlot < C::kHiddenSlot + C::kGates;
};

template <int kValue>
struct Constant {
  static constexpr int value = kValue;
};

// visit(Constant<s>()) for each slot s of the cell
template <class C, int kSlot = 0, class Visit>
FASTRNN_DEVICE void each_slot(Visit visit) {
  if constexpr (kSlot < C::kSlots) {
    visit(Constant<kSlot>());
    each_slot<C, kSlot + 1>(visit);
  }
}

// What a step keeps for each slot of the unit. Those that the input's product adds to lie where it
// was, in the order of the gates; one that has no place there has a tensor of its own.
template <class C, class S>
struct SlotRows {
  Rows<S> gates;  // [B, G * H]
  Rows<S> extra;  // [B, H]

  template <int kSlot>
  FASTRNN_DEVICE S& at(int64_t r, int64_t j, int64_t H) const {
    if constexpr (Slot<C, kSlot>::kFromInput) {
      return gates.at(r, Slot<C, kSlot>::kGate * H + j);
    } else {
      return extra.at(r, j);
    }
  }
};

}  // namespace fastrnn::cuda
