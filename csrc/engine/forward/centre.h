// Weights less the means of their columns, as layers with norms have them.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/call/api.h"
#include "engine/kernels/kernels.h"

namespace fastrnn {

struct CentredMatrix {
  DType dtype;
  int64_t rows, columns;
  const void* from;
  void* to;
};

// Takes the means over each of some groups of rows off, on as many threads as that is worth, at the
// most those offered. Every matrix has as many rows in each group.
void centre(const std::vector<CentredMatrix>& matrices, int64_t groups, int threads,
            const KernelTable& kernels);

}  // namespace fastrnn
