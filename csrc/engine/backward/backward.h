// The backward pass of a whole stack of layers.
#pragma once

#include "engine/call/plan.h"

namespace fastrnn {

template <class Real>
void backward(const Plan& plan, const BackwardArgs<Real>& args);

template <class Real>
int64_t backward_workspace_bytes(const Plan& plan);

}  // namespace fastrnn
