// The spine of one instruction set: everything of kernels/isa and cells/, compiled under this ISA's
// flags into a namespace of its own. No C++ library header may come in here: a weak inline function
// compiled for AVX-512 could be the copy that the linker keeps for everyone.
#include <stdint.h>

#include "engine/kernels/kernels.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

#include "parts-inl.h"

// A cell of one stage has one product.
constexpr int kOnly[] = {0};

template <class C, class Real>
constexpr CellKernels<Real> cell_kernels() {
  typedef CellPanel<C, Real> Panel;
  CellKernels<Real> cell = {};
  cell.gates = C::kGates;
  cell.slots = C::kSlots;
  cell.input = {C::kInputSlot, C::kGates};
  cell.gate_of_slot = C::kGateOfSlot;
  cell.states = C::kStates;
  cell.saved = C::kSavesGates ? C::kSlots : 0;
  cell.reads_previous_hidden = C::kReadsPreviousHidden;
  cell.meets = true;
  cell.unit_width = Panel::kUnits;
  cell.tallest = Panel::kTallest;
  cell.forward_row = forward_row<C, Real>;
  cell.project = product<Real, Panel::kGateVectors>;
  cell.products = 1;
  cell.product[0] = {C::kHiddenSlot, C::kGates};
  cell.forward_stages = cell.backward_stages = {1, kOnly};
  cell.forward = forward_step<C, Real>;
  cell.backward = backward_step<C, Real>;
  return cell;
}

template <class Real>
int64_t program_shares(int slots) {
  const int64_t tiles = tiles_of_program(slots);
  return tiles * max_rows(kColumnVectors) * slots * kColumnVectors * kLanes<Real>;
}

template <class Real>
constexpr Kernels<Real> kernels() {
  return {kColumnVectors * kLanes<Real>,
          max_rows(kColumnVectors),
          pack_gates<Real>,
          pack_rows<Real>,
          product<Real, kColumnVectors>,
          product_in_place<Real>,
          outer<Real>,
          sum_rows<Real>,
          centre<Real>,
          mask<Real>,
          {cell_kernels<Lstm, Real>(), cell_kernels<Gru, Real>(), cell_kernels<Rnn<Tanh>, Real>(),
           cell_kernels<Rnn<Relu>, Real>()},
          kRegister<Real>,
          program_shares<Real>,
          program_forward<Real>,
          program_forward_row<Real>,
          program_backward<Real>,
          {format<Real>(pack_plain<Real>)}};
}

constexpr Kernels<float> kernels_of_floats() {
  Kernels<float> all = kernels<float>();
  all.formats[static_cast<int>(Format::kBfloat16)] = format<Bfloat16>(pack_bfloat16);
  all.formats[static_cast<int>(Format::kInt8)] = format<Int8>(pack_int8);
  return all;
}

}  // namespace

extern const KernelTable kKernels;
const KernelTable kKernels = {kernels_of_floats(), kernels<double>()};

}  // namespace fastrnn::FASTRNN_ISA
