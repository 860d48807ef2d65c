#include "cuda/loop-inl.h"

FASTRNN_PRECISION(run_bfloat16, TensorCores<BFloat16>)
