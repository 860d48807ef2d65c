// Instructions that some processors with an instruction set have and others lack: each brings one
// format of weights. Those that a processor has run and timed are on where they are available.
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
  bool proven;     // has a processor run its kernels, and were they faster?
  // Asks the system for what it grants a process on request alone; null: there is no such thing.
  // The kernels run after it has returned true.
  bool (*ask)() = nullptr;
  bool on = false;
};

// Those that were built, a later one before an earlier one of the same format. On are those that
// are available and proven; or, where the environment variable FASTRNN_EXTENSIONS is set, those
// that it names, separated by commas, all that are available if it says "all", and none if it says
// "none". One that the system refuses then is not available.
const std::vector<Extension>& extensions();

// Throws std::runtime_error that lists what exists where the variable names one that was not built
// or that this processor lacks.
void check_extensions();

// Of an instruction set, with the formats of its extensions that are on in their places
const KernelTable& extended(const std::string& isa, const KernelTable& kernels);

// With that of one of them
KernelTable extended(const KernelTable& kernels, const Extension& own);

}  // namespace fastrnn
