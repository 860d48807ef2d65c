#include "layer.h"

#include <stdexcept>

namespace fastrnn::cuda {

// One source each in precisions/
#define FASTRNN_DECLARE(name)                                     \
  void name(const Sequence&, const ForwardLayer&, Stream stream); \
  void name(const Sequence&, const BackwardLayer&, Stream stream);
FASTRNN_DECLARE(run_float32)
FASTRNN_DECLARE(run_tf32)
FASTRNN_DECLARE(run_float64)
FASTRNN_DECLARE(run_float16)
FASTRNN_DECLARE(run_bfloat16)
#undef FASTRNN_DECLARE

namespace {

template <class Layer>
void dispatch(Precision precision, const Sequence& sequence, const Layer& layer, Stream stream) {
  switch (precision) {
    case Precision::kFloat32:
      return run_float32(sequence, layer, stream);
    case Precision::kTf32:
      return run_tf32(sequence, layer, stream);
    case Precision::kFloat64:
      return run_float64(sequence, layer, stream);
    case Precision::kFloat16:
      return run_float16(sequence, layer, stream);
    case Precision::kBFloat16:
      return run_bfloat16(sequence, layer, stream);
  }
  throw std::invalid_argument("unknown precision");
}

}  // namespace

void run(Precision precision, const Sequence& sequence, const ForwardLayer& layer, Stream stream) {
  dispatch(precision, sequence, layer, stream);
}
void run(Precision precision, const Sequence& sequence, const BackwardLayer& layer, Stream stream) {
  dispatch(precision, sequence, layer, stream);
}

}  // namespace fastrnn::cuda
