// What the tensors of a cell look like: blocks of H columns, one for each slot.
#pragma once

#include <vector>

#include "engine/call/api.h"

namespace fastrnn::cuda {

// Slots that follow one another and whose gates do, too
struct Run {
  int slot, gate, count;
};

struct CellLayout {
  int gates = 0;
  int slots = 0;
  int input_slot = 0;  // the first one that the input's product adds to; likewise
  int hidden_slot = 0;
  std::vector<int> gate_of_slot;

  std::vector<Run> runs(int first) const;  // of the slots from `first` on that a product adds to
};

CellLayout cell_layout(Cell cell);  // std::invalid_argument for a cell that has no kernels here

}  // namespace fastrnn::cuda
