// What the tensors of a cell look like: blocks of H columns, one for each slot.
#pragma once

#include <vector>

#include "engine/call/api.h"

namespace fastrnn::cuda {

struct CellLayout {
  int gates = 0;
  int slots = 0;
  int input_slot = 0;  // the first one that the input's product adds to; likewise
  int hidden_slot = 0;
  std::vector<int> gate_of_slot;

  // The gate of the first of the slots from `first` on that a product adds to. The others follow
  // in torch's order, which begins again after the last gate.
  int first_gate(int first) const { return gate_of_slot[first]; }
};

CellLayout cell_layout(Cell cell);  // std::invalid_argument for a cell that has no kernels here

}  // namespace fastrnn::cuda
