// Which rows take part in a step, and where their states come from. A row is a predicate here, so
// that ragged batches need neither an order nor anything that only the host knows.
#pragma once

#include "portable.h"

namespace fastrnn::cuda {

// Rows of one step of a tensor; features are contiguous.
template <class T>
struct Rows {
  T* base = nullptr;
  int64_t row = 0;

  FASTRNN_ANYWHERE explicit operator bool() const { return base != nullptr; }
  FASTRNN_ANYWHERE T* at(int64_t r) const { return base + r * row; }
  FASTRNN_ANYWHERE T& at(int64_t r, int64_t i) const { return base[r * row + i]; }
};

// One step of one direction. `before` is the step that the direction comes from.
struct StepRows {
  int64_t t = -1;
  int64_t before = -1;               // -1: none
  int64_t count = 0;                 // rows that a packed batch has at t, else all; 0: no such step
  int64_t count_before = 0;          // the same for the step before
  const int64_t* lengths = nullptr;  // [B] steps of each row; null: all that there are
  Rows<const bool> resets;           // [B][1] nothing passes from the step before; or null

  FASTRNN_ANYWHERE bool active(int64_t r) const {
    return r < count && (!lengths || t < lengths[r]);
  }
  // Has an active row been at the step before? Else it starts from its initial state.
  FASTRNN_ANYWHERE bool continues(int64_t r) const {
    return r < count_before && (!lengths || before < lengths[r]);
  }
  // Does an active row enter with a state of zeros? The forward direction crosses the border before
  // its own step, even the first one; the reverse direction that before the step it comes from.
  FASTRNN_ANYWHERE bool forgets(int64_t r) const {
    return resets && *resets.at(r) && (before < t || continues(r));
  }
};

}  // namespace fastrnn::cuda
