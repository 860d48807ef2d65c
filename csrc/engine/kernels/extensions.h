// Instructions that some processors with an instruction set have and others lack: each brings one
// format of weights. They are off unless asked for, since none of them has been measured yet.
#pragma once

#include <string>
#include <vector>

#include "kernels.h"

namespace fastrnn {

struct Extension {
  std::string name, isa;
  Format format;
  const WeightFormat<float>* kernels;
  bool available;  // in this processor, with what the instruction set requires or without
  bool on = false;
};

// Those that were built. On are those that the environment variable FASTRNN_EXTENSIONS names,
// separated by commas, or all that are available if it says "all".
const std::vector<Extension>& extensions();

// Throws std::runtime_error that lists what exists where the variable names one that was not built
// or that this processor lacks.
void check_extensions();

// Of an instruction set, with the formats of its extensions that are on in their places
const KernelTable& extended(const std::string& isa, const KernelTable& kernels);

// With that of one of them
KernelTable extended(const KernelTable& kernels, const Extension& own);

}  // namespace fastrnn
