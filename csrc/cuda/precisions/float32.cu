#include "cuda/loop-inl.h"

FASTRNN_PRECISION(run_float32, Fma<float>)
