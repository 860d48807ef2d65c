// The forward pass of a whole stack of layers.
#pragma once

#include "engine/call/plan.h"

namespace fastrnn {

template <class Real>
void forward(const Plan& plan, const ForwardArgs<Real>& args);

template <class Real>
int64_t forward_workspace_bytes(const Plan& plan);

}  // namespace fastrnn
