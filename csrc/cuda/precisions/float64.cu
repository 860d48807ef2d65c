#include "cuda/loop-inl.h"

FASTRNN_PRECISION(run_float64, Fma<double>)
