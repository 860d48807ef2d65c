#include "cuda/loop-inl.h"

FASTRNN_PRECISION(run_tf32, TensorCores<float>)
