// One layer's recurrence as plain data, and the functions that run it. Addresses are in the memory
// of a device, and of the types that the precision has (T as stored, S as summed); null where there
// is nothing. G gates, K = P or H outputs of a direction.
#pragma once

#include "sequence.h"

namespace fastrnn::cuda {

// How products are computed. TF32 is float32 rounded to 10 bits of mantissa on its way into them.
enum class Precision { kFloat32, kTf32, kFloat64, kFloat16, kBFloat16 };

// Where launches go.
struct Stream {
  int device = 0;
  void* handle = nullptr;
};

struct LayerShape {
  Cell cell = Cell::kLstm;
  int64_t H = 0;
  int64_t P = 0;         // 0: no projection
  bool reverse = false;  // a single direction runs backwards
  bool reversed(int direction) const { return direction == 1 || reverse; }
  int64_t out() const { return P > 0 ? P : H; }
};

// Of one direction. Tensors of all steps are Strided, the others contiguous.
struct Forward {
  const void* w_hh = nullptr;  // T [G * H, K]
  const void* b_ih = nullptr;  // T [G * H], as b_hh; both or none
  const void* b_hh = nullptr;
  const void* w_hr = nullptr;  // T [P, H]
  const void* h0 = nullptr;    // T [B, K]; null: zeros
  void* h = nullptr;         // T [2, B, K]: what lies between the steps; none if there is one step
  void* h_n = nullptr;       // T [B, K]: out, not where h0 is; or null
  const void* c0 = nullptr;  // S [B, H]; null: zeros
  void* c = nullptr;         // S [B, H]: out, the final state, and what lies between the steps
  Strided<void> gates;       // S [G * H]: in x * w_ih^T, out what backward needs (if save)
  Strided<void> extra;       // S [H]: out, of a cell that has more slots than gates (if save)
  Strided<void> cell;        // S [H]: out, the cell states; or null
  Strided<void> raw;         // T [H]: h before the projection
  Strided<void> y;           // T [K]: out
};

struct Backward {
  const void* w_hh = nullptr;   // T [K, G * H]: transposed, gates in the order of the slots
  const void* w_hr = nullptr;   // T [H, P]: transposed
  const void* h0 = nullptr;     // T [B, K]
  const void* c0 = nullptr;     // S [B, H]
  const void* d_h_n = nullptr;  // S [B, K]: the final state's gradient; null: zeros
  void* d_h = nullptr;          // S [B, K]: out, the initial state's; may be where d_h_n is
  const void* d_c_n = nullptr;  // S [B, H]: likewise
  void* d_c = nullptr;
  Strided<void> gates, extra, cell;  // as forward left them
  Strided<void> y;                   // T [K]: as forward left it
  Strided<void> d_y;                 // T [K], or null
  Strided<void> d_cell;              // T [H]: gradients of the cell states, or null
  Strided<void> d_pre;               // T [slots * H]: out
  Strided<void> d_projected;         // T [P]: out
  Strided<void> h_prev;              // T [K]: out, the states that steps began with; or null
};

// Both directions of a layer, side by side, the second one in reverse.
struct ForwardLayer {
  LayerShape shape;
  bool save = false;
  int directions = 1;
  Forward of[2];
};
struct BackwardLayer {
  LayerShape shape;
  bool initial = false;  // are gradients of the initial states wanted?
  int directions = 1;
  Backward of[2];
};

// Enqueue; return at once. std::runtime_error if the device refuses, std::invalid_argument for a
// cell that has no kernels here.
void run(Precision precision, const Sequence& sequence, const ForwardLayer& layer, Stream stream);
void run(Precision precision, const Sequence& sequence, const BackwardLayer& layer, Stream stream);

}  // namespace fastrnn::cuda
