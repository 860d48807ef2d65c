#include "cell_layout.h"

#include <stdexcept>

#include "cells.h"

namespace fastrnn::cuda {
namespace {

template <class C>
CellLayout layout_of() {
  return {C::kGates, C::kSlots, C::kInputSlot, C::kHiddenSlot,
          std::vector<int>(C::kGateOfSlot, C::kGateOfSlot + C::kSlots)};
}

}  // namespace

std::vector<Run> CellLayout::runs(int first) const {
  std::vector<Run> found;
  for (int slot = first; slot < first + gates; ++slot) {
    const int gate = gate_of_slot[slot];
    if (!found.empty() && gate == found.back().gate + found.back().count)
      ++found.back().count;
    else
      found.push_back({slot, gate, 1});
  }
  return found;
}

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
