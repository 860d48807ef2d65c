// One call of a recurrent layer as plain data: sizes, strides in elements, addresses. Shared by
// every back end.
#pragma once

#include <stdint.h>

namespace fastrnn {

enum class Cell { kLstm, kGru, kRnnTanh, kRnnRelu, kProgram };
constexpr int kCells = 4;  // that are compiled, which are torch's

struct Program;  // program.h

// What a step takes from the one before and leaves to the next, by its number in the cell. The
// hidden state is what a layer puts out; the others stay within the cell, as the LSTM's c, number
// 1, does.
constexpr int kMostStates = 8;
constexpr int kHidden = 0;

// Products with recurrent weights that follow one another within a step, each on what the one
// before has led to; the first is that of the hidden state.
constexpr int kMostProducts = 5;

enum class DType { kFloat32, kFloat64 };

// How the numbers of packed weights lie in memory (WeightFormat in kernels.h): as those of the
// call, or in fewer bytes. Of bfloat16 there are two: as weights that become float32, and as
// operands of products like the rows that they meet, which an extension has.
enum class Format { kPlain, kBfloat16, kInt8, kBfloat16Dots };
constexpr int kFormats = 4;

// What the matrices that a call brings are made of: its own numbers, or bfloat16, which are raised
// as they are read.
enum class Source { kPlain, kBfloat16 };

// A number of bfloat16: what stands in the upper half of the float32 that it is.
struct UpperHalf {
  uint16_t bits;
};

// The sizes of a call. Letters are torch's: T steps, B rows at the widest step, I input features, H
// hidden units.
struct Shape {
  Cell cell = Cell::kLstm;
  DType dtype = DType::kFloat32;
  int64_t T = 0;
  int64_t B = 0;
  int64_t I = 0;
  int64_t H = 0;
  int64_t P = 0;  // proj_size; 0: no projection
  int64_t layers = 1;
  int64_t directions = 1;
  bool bias = true;
  bool reverse = false;              // a single direction runs backwards
  const Program* program = nullptr;  // of a cell that is one
  int states = 2;                    // at the most
  int64_t heads = 1;                 // blocks on the diagonal of the recurrent weights
  int64_t extras = 0;                // features of the input beside I: per-step values for programs

  int64_t features() const { return I + extras; }  // of the input
  int64_t out() const { return P > 0 ? P : H; }    // features of one direction's output
  int64_t state_width(int state) const { return state == kHidden ? out() : H; }
  // From one row of the caller's to the next: the states after the hidden one lie side by side.
  int64_t state_stride(int state) const { return state == kHidden ? out() : (states - 1) * H; }
  int64_t state_offset(int state) const { return state == kHidden ? 0 : (state - 1) * H; }
  int64_t operand_width(int product) const { return product == 0 ? out() : H; }
  int64_t in(int64_t layer) const { return layer == 0 ? I : directions * out(); }
  int64_t widest_in() const { return layers > 1 && in(1) > I ? in(1) : I; }
  int64_t of_head() const { return H / heads; }  // units of each block
  bool reversed(int64_t direction) const { return direction == 1 || reverse; }
};

// Where the feature vector of row r at step t lies. Features are contiguous.
//   dense:  base + t * step + order[r] * row       (order null: r itself)
//   packed: base + (start[t] + r) * row            (start: [T + 1] first packed row of each step)
template <class Real>
struct View {
  Real* base = nullptr;
  int64_t step = 0;
  int64_t row = 0;
  const int64_t* start = nullptr;
  const int64_t* order = nullptr;

  explicit operator bool() const { return base != nullptr; }
  Real* at(int64_t t, int64_t r) const {
    if (start) return base + (start[t] + r) * row;
    return base + t * step + (order ? order[r] : r) * row;
  }
};

// The parameters of one (layer, direction), or their gradients, in torch's own layout. Absent ones
// are null. With Source::kBfloat16, which only forward passes in float32 have, matrices are
// UpperHalf and the vectors still numbers of the call.
template <class Real>
struct Weights {
  Real* w_ih = nullptr;  // [G * H, I]
  Real* w_hh = nullptr;  // [G * H, H_out]
  Real* b_ih = nullptr;  // [G * H]
  Real* b_hh = nullptr;  // [G * H]
  Real* w_hr = nullptr;  // [P, H]
  Real* w_ch = nullptr;  // [vectors * H], of programs
  Source source = Source::kPlain;
};

// States are [layers * directions, B, H_out] (the hidden one) and [layers * directions, B, H] (each
// of the others, side by side in rows of all of them); those after every step are [layers *
// directions, T, B, ...] likewise, zero past a row's end. Row r of the call is batch entry
// order[r]. A null initial state is zero; a null gradient is zero (incoming) or not wanted
// (outgoing).
template <class Real>
struct ForwardArgs {
  View<const Real> x;
  View<Real> y;
  const Real* initial[kMostStates] = {};
  Real* last[kMostStates] = {};
  Real* all[kMostStates] = {};                   // after every step, if the plan wants them
  const Weights<const Real>* weights = nullptr;  // [layers * directions]; null: the plan has them
  const Real* const* masks =
      nullptr;            // [layers - 1] scaled dropout masks, flat rows of D * H_out; or null
  char* saved = nullptr;  // kept for backward; null: inference
  char* workspace = nullptr;
};

template <class Real>
struct BackwardArgs {
  View<const Real> x;
  View<const Real> d_y;
  View<Real> d_x;
  const Real* initial[kMostStates] = {};
  const Real* d_last[kMostStates] = {};
  const Real* d_all[kMostStates] = {};
  Real* d_initial[kMostStates] = {};
  const Weights<const Real>* weights = nullptr;  // [layers * directions]
  const Weights<Real>* d_weights = nullptr;      // [layers * directions]
  const Real* const* masks = nullptr;
  const char* saved = nullptr;
  char* workspace = nullptr;
};

}  // namespace fastrnn
