// What an extension of an instruction set brings: one format of weights, with the products and
// steps that meet it, compiled under the flags of both into a namespace of its own. As in
// kernels.cpp, no C++ library header may come in here.
#include <stdint.h>

#include "engine/kernels/kernels.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

#include "parts-inl.h"
// On what stands there
#include "dot-formats-inl.h"
// ... products of the same in tiles
#include "tile-registers-inl.h"
// ... of the processor
#include "tile-formats-inl.h"

}  // namespace

extern const WeightFormat<float> kFormat;
const WeightFormat<float> kFormat = format<FASTRNN_FORMAT>(pack_dots<FASTRNN_FORMAT>);

}  // namespace fastrnn::FASTRNN_ISA
