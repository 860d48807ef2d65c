// Cells that were written as programs: an interpreter of their code, one instruction at a time over
// some rows and units. Registers stay in the first-level cache, and other operands are met where
// they lie (places-inl.h). Each instruction is compiled once, and none is fused with another, so
// that a row's results depend on that row alone.

// One number for all units of a row
template <class Real, class Of>
FASTRNN_INLINE void take_number(const ProgramBlock<Real>& block, Real* to, Of of) {
  each_segment(block, [&](int64_t m, const Segment& at) {
    const Vec<Real> number = broadcast(of(m, at));
    each_vector(block, [&](int lane) { store(to + lane, number); });
    to += block.vectors * kLanes<Real>;
  });
}

// The sum over a segment's units, lane by lane first, then of the lanes' halves
template <class Real>
FASTRNN_INLINE Real sum_of_units(const ProgramBlock<Real>& block, const Real* from) {
  Vec<Real> lanes = {};
  for (int j = 0; j < block.vectors; ++j)
    lanes += load_first(from + j * kLanes<Real>, block.valid - j * kLanes<Real>);
  Real sums[kLanes<Real>];
  store(sums, lanes);
  for (int half = kLanes<Real> / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) sums[i] += sums[i + half];
  return sums[0];
}

template <class Real>
FASTRNN_INLINE Real sum_of_panels(const Real* sums, int64_t sum, int64_t panels) {
  Real total = 0;
  for (int64_t i = 0; i < panels; ++i) total += sums[sum * panels + i];
  return total;
}

// libm's function of each lane
#define FASTRNN_LANE_BY_LANE(name)                                           \
  FASTRNN_INLINE float name##_of(float x) { return __builtin_##name##f(x); } \
  FASTRNN_INLINE double name##_of(double x) { return __builtin_##name(x); }  \
  template <class V>                                                         \
  FASTRNN_INLINE V each_##name(V x) {                                        \
    constexpr int lanes = sizeof(V) / sizeof(typename RealOf<V>::Real);      \
    for (int i = 0; i < lanes; ++i) x[i] = name##_of(x[i]);                  \
    return x;                                                                \
  }
FASTRNN_LANE_BY_LANE(log)
FASTRNN_LANE_BY_LANE(log1p)
FASTRNN_LANE_BY_LANE(sqrt)
FASTRNN_LANE_BY_LANE(sin)
FASTRNN_LANE_BY_LANE(cos)
FASTRNN_LANE_BY_LANE(erf)
#undef FASTRNN_LANE_BY_LANE

// How an instruction walks its operands: so many segments of so many elements
struct Walk {
  int64_t segments, width;
};

template <class Real>
FASTRNN_INLINE Walk walk_of(const ProgramBlock<Real>& block) {
  return {block.segments, block.vectors * kLanes<Real>};
}

// What no other operand stands beside is walked as if all of it were full segments; the room for it
// is a multiple of those.
template <class Real>
FASTRNN_INLINE Walk walk_of_registers(const ProgramBlock<Real>& block) {
  return {(block.size() + kColumnVectors - 1) / kColumnVectors, ProgramBlock<Real>::kWidth};
}

// Computes the instructions from `at` on, as far as they do nothing else; returns the next.
// Segments that are full, as most are, have loops that the compiler unrolls, where there is little
// in them.
template <class Real>
FASTRNN_NOINLINE const PlacedInstruction* compute(const PlacedInstruction* at,
                                                  const PlacedInstruction* end,
                                                  const Places<Real>& places, const Walk& segments,
                                                  const Walk& registers) {
  constexpr int64_t full = ProgramBlock<Real>::kWidth;
  const Vec<Real> zero = {}, one = zero + 1;
#define FASTRNN_EACH(width, value)                                                      \
  for (int64_t m = 0; m < walk.segments; ++m) {                                         \
    Real* const to = of_to[m] + to_offset;                                              \
    const Real *const from_a = of_a[m] + a_offset, *const from_b = of_b[m] + b_offset,  \
                      *const from_c = of_c[m] + c_offset;                               \
    for (int64_t i = 0; i < width; i += kLanes<Real>) {                                 \
      const Vec<Real> a = load(from_a + i), b = load(from_b + i), c = load(from_c + i); \
      (void)a, (void)b, (void)c;                                                        \
      store<Real>(to + i, value);                                                       \
    }                                                                                   \
  }
#define FASTRNN_LONG(name, value)   \
  case Op::name:                    \
    FASTRNN_EACH(walk.width, value) \
    break;
#define FASTRNN_SHORT(name, value)    \
  case Op::name:                      \
    if (walk.width == full) {         \
      FASTRNN_EACH(full, value)       \
    } else {                          \
      FASTRNN_EACH(walk.width, value) \
    }                                 \
    break;
  for (; at < end; ++at) {
    const Walk& walk = at->to.place == Operand::kWhole ? registers : segments;
    Real *const *const of_to = places.first[at->to.place], *const *const of_a =
                                                               places.first[at->a.place];
    Real *const *const of_b = places.first[at->b.place], *const *const of_c =
                                                             places.first[at->c.place];
    const int64_t to_offset = places.offset(at->to), a_offset = places.offset(at->a);
    const int64_t b_offset = places.offset(at->b), c_offset = places.offset(at->c);
    switch (at->op) {
      FASTRNN_SHORT(neg, -a)
      FASTRNN_LONG(exp, exp(a))
      FASTRNN_LONG(expm1, expm1(a))
      FASTRNN_LONG(log, each_log(a))
      FASTRNN_LONG(log1p, each_log1p(a))
      FASTRNN_LONG(sqrt, each_sqrt(a))
      FASTRNN_LONG(sigmoid, sigmoid(a))
      FASTRNN_LONG(tanh, tanh(a))
      FASTRNN_LONG(softplus, softplus(a))
      FASTRNN_LONG(sin, each_sin(a))
      FASTRNN_LONG(cos, each_cos(a))
      FASTRNN_LONG(erf, each_erf(a))
      FASTRNN_SHORT(abs, magnitude(a))
      FASTRNN_SHORT(sign, a > 0 ? one : a < 0 ? -one : zero)
      FASTRNN_SHORT(relu, relu(a))
      FASTRNN_SHORT(reciprocal, 1 / a)
      FASTRNN_SHORT(one_minus, 1 - a)
      FASTRNN_SHORT(add, a + b)
      FASTRNN_SHORT(sub, a - b)
      FASTRNN_SHORT(mul, a * b)
      FASTRNN_SHORT(div, a / b)
      FASTRNN_SHORT(minimum, a == a ? (a < b ? a : b) : a)
      FASTRNN_SHORT(maximum, a == a ? (a > b ? a : b) : a)
      FASTRNN_SHORT(lt, a < b ? one : zero)
      FASTRNN_SHORT(le, a <= b ? one : zero)
      FASTRNN_SHORT(eq, a == b ? one : zero)
      FASTRNN_SHORT(d_sigmoid, a * (b * (1 - b)))
      FASTRNN_SHORT(d_tanh, a * (1 - b * b))
      FASTRNN_SHORT(d_relu, where_open(b, a))
      FASTRNN_SHORT(where, a != 0 ? b : c)
      FASTRNN_SHORT(fma, a * b + c)
      FASTRNN_SHORT(copy, a)
      default:
        return at;
    }
  }
#undef FASTRNN_EACH
#undef FASTRNN_LONG
#undef FASTRNN_SHORT
  return end;
}

// Runs the code of rows: a register has a number for each segment, one after the other, and a place
// has it as the first of what its units have.
template <class Real, class Row>
FASTRNN_INLINE void run_rows(const ProgramStep<Real>& own, const Row* rows,
                             const ProgramBlock<Real>& block, const Places<Real>& places) {
  const int64_t vectors = (block.segments + kLanes<Real> - 1) / kLanes<Real>;
  const Walk walk = {1, vectors * kLanes<Real>};
  const PlacedInstruction* const end = own.of_rows.first + own.of_rows.count;
  for (const PlacedInstruction* at = own.of_rows.first; at < end;) {
    switch (at->op) {
      case Op::constant:
        for (int64_t i = 0; i < walk.width; ++i)
          places.at(at->to, 0)[i] = own.constants[at->a.number * ProgramBlock<Real>::kWidth];
        break;
      case Op::sum: {
        Real* to = places.at(at->to, 0);
        each_segment(block, [&](int64_t m, const Segment& segment) {
          to[m] = sum_of_panels(rows[segment.row].sums, at->a.number, own.panels);
        });
        break;
      }
      case Op::take:
        for (int64_t m = 0; m < block.segments; ++m) places.at(at->to, 0)[m] = *places.at(at->a, m);
        break;
      case Op::give:
        for (int64_t m = 0; m < block.segments; ++m) *places.at(at->to, m) = places.at(at->a, 0)[m];
        break;
      default:
        at = compute(at, end, places, walk, walk);
        continue;
    }
    ++at;
  }
}

// Gives each row's number to its units.
template <class Real>
FASTRNN_INLINE void spread(const ProgramBlock<Real>& block, const Real* from, Real* to) {
  Real numbers[kBlockVectors];
  for (int64_t m = 0; m < block.segments; ++m) numbers[m] = from[m];
  take_number(block, to, [&](int64_t m, const Segment&) { return numbers[m]; });
}

// What ends with the last unit, into a segment of a register
template <class Real>
FASTRNN_INLINE void take_units(const ProgramBlock<Real>& block, const Real* from, Real* to) {
  each_vector(block, [&](int lane) {
    store<Real>(to + lane, load_first(from + lane, block.valid - lane));
  });
}

// What units' code of either pass does besides computing
template <class Real, class Row>
FASTRNN_INLINE void run_other(const ProgramStep<Real>& own, const Row* rows,
                              const ProgramBlock<Real>& block, const Places<Real>& places,
                              const PlacedInstruction& at) {
  switch (at.op) {
    case Op::take:
      for (int64_t m = 0; m < block.segments; ++m)
        take_units(block, places.at(at.a, m), places.at(at.to, m));
      break;
    case Op::give:
      for (int64_t m = 0; m < block.segments; ++m) {
        const Real* from = places.at(at.a, m);
        Real* to = places.at(at.to, m);
        each_vector(block, [&](int lane) {
          store_first(to + lane, load(from + lane), block.valid - lane);
        });
      }
      break;
    case Op::extra: {
      const Extra& extra = own.extras[at.a.number];
      if (!extra.per_unit) {
        take_number(block, places.at(at.to, 0), [&](int64_t, const Segment& segment) {
          return rows[segment.row].extras[extra.offset];
        });
        break;
      }
      // One of each unit whose offset is too large for an operand
      each_segment(block, [&](int64_t m, const Segment& segment) {
        const Real* from = rows[segment.row].extras + extra.offset + segment.unit;
        take_units(block, from, places.at(at.to, m));
      });
      break;
    }
    case Op::sum:
      take_number(block, places.at(at.to, 0), [&](int64_t, const Segment& segment) {
        return sum_of_panels(rows[segment.row].sums, at.a.number, own.panels);
      });
      break;
    case Op::add_to_sum:
      each_segment(block, [&](int64_t m, const Segment& segment) {
        rows[segment.row].sums[at.to.number * own.panels + segment.panel] =
            sum_of_units(block, places.at(at.a, m));
      });
      break;
    default:  // spread
      spread(block, places.at(at.a, 0), places.at(at.to, 0));
  }
}
