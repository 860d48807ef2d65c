// The packed weights of one direction: where they lie in a block, and how they get there.
#pragma once

#include <algorithm>
#include <cstring>

#include "engine/call/plan.h"

namespace fastrnn {

// Where the steps find what a direction has learned. The constructor that lays it out is the one
// that measures it.
template <class Real>
struct PackedDirection {
  PackedDirection() = default;
  // in: features of the input. once: a panel of gates is packed, used and forgotten, elsewhere.
  PackedDirection(const Shape& shape, const Panels<Real>& panels, int64_t in, bool once,
                  Arena& arena)
      : w_ih(arena.take<char>(once ? 0 : panels.input_bytes(in))) {
    for (int i = 0; i < panels.cell.products; ++i)
      w_hh[i] = arena.take<char>(once ? 0 : panels.product_bytes(shape, i));
    if (shape.P) w_hr = arena.take<char>(panels.columns(shape.P) * panels.projection_panel(shape));
    bias = arena.take<Real>(panels.gates * panels.width);
  }

  char* w_ih = nullptr;            // gate panels
  char* w_hh[kMostProducts] = {};  // those of the slots of each product
  char* w_hr = nullptr;            // column panels of the transposed matrix
  Real* bias = nullptr;            // [gate panels][slots][unit]
  Real* vectors = nullptr;         // of a program
};

// Brings the weights of a direction into panels of plain numbers. By slot, each slot's panels begin
// `slot_stride` elements after those of the one before.
template <class Real>
class DirectionPacking {
 public:
  DirectionPacking(const Shape& shape, const Panels<Real>& panels,
                   const Weights<const Real>& weights, int64_t in_features)
      : shape_(shape), panels_(panels), weights_(weights), in_features_(in_features) {}

  void pack_w_ih(Range panels, Real* to, int64_t slot_stride) const {
    pack_gates(weights_.w_ih, in_features_, panels_.cell.input, panels, to, slot_stride);
  }

  void pack_w_hh(int product, Range panels, Real* to, int64_t slot_stride) const {
    const Slots& slots = panels_.cell.product[product];
    if (shape_.heads > 1) return pack_heads(weights_.w_hh, slots, panels, to, slot_stride);
    pack_gates(weights_.w_hh, shape_.operand_width(product), slots, panels, to, slot_stride);
  }

  void pack_w_hr(Range panels, Real* to) const {
    const int gate = 0;
    panels_.kernels.pack_gates({weights_.w_hr, shape_.P, shape_.H, 1, &gate, panels_.column, to,
                                panels.begin, panels.end, weights_.source});
  }

  // The bias of all panels lies from `to` on. Each slot starts from that of every product that it
  // takes part in.
  void pack_bias(Range mine, Real* to) const {
    const CellKernels<Real>& cell = panels_.cell;
    to += mine.begin * panels_.width;
    for (int64_t panel = mine.begin; panel < mine.end; ++panel) {
      for (int s = 0; s < cell.slots; ++s) {
        const bool from_input = has(cell.input, s) && weights_.b_ih;
        const bool from_hidden =
            weights_.b_hh && std::any_of(cell.product, cell.product + cell.products,
                                         [&](const Slots& own) { return has(own, s); });
        for (int64_t j = 0; j < panels_.unit; ++j, ++to) {
          const int64_t unit = panel * panels_.unit + j;
          const int64_t at = cell.gate_of_slot[s] * shape_.H + unit;
          *to = 0;
          if (unit >= shape_.H) continue;
          if (from_input) *to += weights_.b_ih[at];
          if (from_hidden) *to += weights_.b_hh[at];
        }
      }
    }
  }

 private:
  void pack_gates(const Real* w, int64_t K, const Slots& slots, Range panels, Real* to,
                  int64_t slot_stride) const {
    const int* gates = panels_.cell.gate_of_slot + slots.first;
    if (!panels_.cell.by_slot) {
      panels_.kernels.pack_gates({w, shape_.H, K, slots.count, gates, panels_.unit, to,
                                  panels.begin, panels.end, weights_.source});
      return;
    }
    for (int s = 0; s < slots.count; ++s) {
      panels_.kernels.pack_gates({w, shape_.H, K, 1, gates + s, panels_.unit, to + s * slot_stride,
                                  panels.begin, panels.end, weights_.source});
    }
  }

  // Weights [heads, gates * H / heads, H / heads]: a panel meets what belongs to the heads of its
  // units, and zeros where it has more than one.
  void pack_heads(const Real* w, const Slots& slots, Range panels, Real* to,
                  int64_t slot_stride) const {
    const int64_t of_head = shape_.of_head(), unit = panels_.unit;
    const int64_t length = panels_.panel_length(shape_, 0);
    for (int s = 0; s < slots.count; ++s) {
      const int64_t gate = panels_.cell.gate_of_slot[slots.first + s];
      Real* panel = to + s * slot_stride;
      for (int64_t i = panels.begin; i < panels.end; ++i, panel += length * unit) {
        std::fill_n(panel, length * unit, Real{0});
        const int64_t first = i * unit, begin = first / of_head * of_head;
        for (int64_t u = first; u < std::min(first + unit, shape_.H); ++u) {
          const int64_t head = u / of_head, row = (head * panels_.cell.gates + gate) * of_head;
          const int64_t from = (row + u % of_head) * of_head;
          Real* column = panel + (head * of_head - begin) * unit + u - first;
          for (int64_t k = 0; k < of_head; ++k) column[k * unit] = number(w, from + k);
        }
      }
    }
  }

  // The i-th of a matrix
  Real number(const Real* w, int64_t i) const {
    if (weights_.source == Source::kPlain) return w[i];
    const uint32_t bits = uint32_t{reinterpret_cast<const UpperHalf*>(w)[i].bits} << 16;
    float raised;
    std::memcpy(&raised, &bits, sizeof raised);
    return raised;
  }

  static bool has(const Slots& slots, int s) {
    return s >= slots.first && s < slots.first + slots.count;
  }

  const Shape& shape_;
  const Panels<Real>& panels_;
  const Weights<const Real>& weights_;
  int64_t in_features_;
};

// Brings the weights of a direction into a format, a panel at a time by way of plain numbers.
template <class Real>
class FormatPacking {
 public:
  FormatPacking(const Shape& shape, const Panels<Real>& panels, const Weights<const Real>& weights,
                int64_t in_features, const PackedDirection<Real>& to)
      : shape_(shape),
        panels_(panels),
        packing_(shape, panels, weights, in_features),
        in_(in_features),
        to_(to) {}

  // Elements of a plain panel at the most, of any direction
  static int64_t room(const Shape& shape, const Panels<Real>& panels) {
    int64_t most = std::max(panels.column * shape.H, panels.gate_width * shape.widest_in());
    for (int i = 0; i < panels.cell.products; ++i)
      most = std::max(most, panels.product_width(i) * panels.panel_length(shape, i));
    return most;
  }

  // plain: [room], the thread's own
  void pack_gates(Range panels, Real* plain) const {
    const CellKernels<Real>& cell = panels_.cell;
    for (int64_t panel = panels.begin; panel < panels.end; ++panel) {
      const Range one = {panel, panel + 1};
      packing_.pack_w_ih(one, plain, in_ * panels_.unit);
      convert(plain, in_, cell.input, to_.w_ih + panel * panels_.input_panel(in_),
              panels_.gates * panels_.input_panel(in_));
      for (int i = 0; i < cell.products; ++i) {
        const int64_t K = panels_.panel_length(shape_, i), bytes = panels_.product_panel(shape_, i);
        if (cell.product[i].count > 0) packing_.pack_w_hh(i, one, plain, K * panels_.unit);
        convert(plain, K, cell.product[i], to_.w_hh[i] + panel * bytes, panels_.gates * bytes);
      }
    }
  }
  void pack_projection(Range panels, Real* plain) const {
    for (int64_t panel = panels.begin; panel < panels.end; ++panel) {
      packing_.pack_w_hr({panel, panel + 1}, plain);
      panels_.format.pack(plain, shape_.H, panels_.column,
                          to_.w_hr + panel * panels_.projection_panel(shape_));
    }
  }

 private:
  // A panel with some slots, or by slot one for each of them
  void convert(const Real* plain, int64_t K, const Slots& slots, char* to,
               int64_t slot_bytes) const {
    if (!panels_.cell.by_slot) return panels_.format.pack(plain, K, slots.count * panels_.unit, to);
    for (int s = 0; s < slots.count; ++s)
      panels_.format.pack(plain + s * K * panels_.unit, K, panels_.unit, to + s * slot_bytes);
  }

  const Shape& shape_;
  const Panels<Real>& panels_;
  const DirectionPacking<Real> packing_;
  int64_t in_;
  const PackedDirection<Real>& to_;
};

}  // namespace fastrnn
