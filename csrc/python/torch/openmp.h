// The OpenMP that torch computes with.
#pragma once

#include "engine/team/openmp.h"

namespace fastrnn {

// For search_openmp_by: whatever the library is called, it is what torch's own is linked to. Null
// while torch is not loaded, and on systems other than Linux, where the engine has threads of its
// own.
const OpenMp* torchs_openmp();

}  // namespace fastrnn
