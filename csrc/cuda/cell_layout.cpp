#include "cell_layout.h"

#include <stdexcept>

#include "cells.h"

namespace fastrnn::cuda {
namespace {

template <class C>
constexpr bool follows_torch(int first) {
  for (int i = 0; i < C::kGates; ++i)
    if (C::kGateOfSlot[first + i] != (C::kGateOfSlot[first] + i) % C::kGates) return false;
  return true;
}

template <class C>
CellLayout layout_of() {
  static_assert(follows_torch<C>(C::kInputSlot) && follows_torch<C>(C::kHiddenSlot));
  return {C::kGates, C::kSlots, C::kInputSlot, C::kHiddenSlot,
          std::vector<int>(C::kGateOfSlot, C::kGateOfSlot + C::kSlots)};
}

}  // namespace

CellLayout cell_layout(Cell cell) {
  switch (cell) {
    case Cell::kLstm:
      return layout_of<Lstm>();
    case Cell::kGru:
      return layout_of<Gru>();
    case Cell::kRnnTanh:
    case Cell::kRnnRelu:
      return layout_of<Rnn<Tanh>>();
    default:
      throw std::invalid_argument("this cell has no CUDA kernels");
  }
}

}  // namespace fastrnn::cuda
