#include "cuda/loop-inl.h"

FASTRNN_PRECISION(run_float16, TensorCores<Half>)
