// What an instruction set and its extensions are made of, and how a format of theirs becomes a row
// of the table. Comes into the namespace of one of them.

#define FASTRNN_INLINE static inline __attribute__((always_inline))
#define FASTRNN_LANE static inline
#if defined(__GNUC__) && !defined(__clang__)
#define FASTRNN_NOINLINE static __attribute__((noipa))
#else
#define FASTRNN_NOINLINE static __attribute__((noinline))
#endif

// In this order, each on what stands before it; the comments keep a formatter from sorting them.
#include "vec-inl.h"
// Functions of vectors
#include "math-inl.h"
// Integers in pairs
#include "pairs-inl.h"
// ... and dot products in each lane
#include "dots-inl.h"
// How packed weights lie in panels
#include "formats-inl.h"
// ... and what they are multiplied with
#include "lefts-inl.h"
// Tiles of vectors
#include "tile-inl.h"

constexpr int kColumnVectors = 4;

// Products of tiles
#include "pack-inl.h"
// ... on packed operands
#include "gemm-inl.h"

// Cells
#include "engine/cells/gru-inl.h"
#include "engine/cells/lstm-inl.h"
#include "engine/cells/rnn-inl.h"
// Products and cells in one
#include "step-inl.h"
// Cells as programs: operands
#include "places-inl.h"
// ... instructions
#include "interpret-inl.h"
// ... steps forward
#include "program-inl.h"
// ... and backward
#include "program-backward-inl.h"

// The steps of all cells with weights in a format; F: see formats-inl.h
template <class C, class F>
constexpr typename WeightFormat<NumberOf<F>>::Steps format_steps() {
  return {product<F, CellPanel<C, NumberOf<F>>::kGateVectors>, forward_step<C, F>};
}

template <class F>
constexpr WeightFormat<NumberOf<F>> format(void (*pack)(const NumberOf<F>*, int64_t, int64_t,
                                                        char*)) {
  typedef FormatOf<F> Own;
  return {Own::kBytes,
          Own::kGroup,
          Own::kScaleBytes,
          kRoundsRows<F> ? sizeof(LeftOf<F>) : 0,
          pack,
          product<F, kColumnVectors>,
          program_forward<F>,
          {format_steps<Lstm, F>(), format_steps<Gru, F>(), format_steps<Rnn<Tanh>, F>(),
           format_steps<Rnn<Relu>, F>()}};
}
