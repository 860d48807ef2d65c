// Which instruction sets were built, which this processor has, and which one is in use.
#pragma once

#include <string>
#include <vector>

#include "kernels.h"

namespace fastrnn {

std::vector<std::string> built_isas();      // from the most general to the fastest
std::vector<std::string> available_isas();  // those of them that this processor runs

// The forced one, else the one that the environment variable FASTRNN_ISA names, else the fastest
// available. Throws std::runtime_error that lists what exists when the named one cannot be used.
const std::string& active_isa();
const KernelTable& active_kernels();

void force_isa(const std::string& name);  // throws as active_isa does
void unforce_isa();

const KernelTable& kernels_of(const std::string& isa);
const KernelTable& table_of(const std::string& isa);  // also where it can be measured, not run

}  // namespace fastrnn
