// Cells that were written as programs: an interpreter of their code, one instruction at a time over
// some rows and units, whose registers stay in the first-level cache. Each instruction is compiled
// once, and none is fused with another, so that a row's results depend on that row alone.

// Vectors that a register holds
constexpr int kBlockVectors = 24;

// The units of a row in a panel: `unit` is the first of them.
struct Segment {
  int64_t row, panel, unit;
};

// The segments that an instruction works on: those of some rows in a panel, or those of a single
// row in several panels, all full.
template <class Real>
struct ProgramBlock {
  static constexpr int64_t kWidth = kColumnVectors * kLanes<Real>;

  ProgramBlock(int64_t H, int64_t panel, int64_t panels, int64_t rows)
      : first{0, panel, panel * kWidth},
        valid(H - first.unit),
        vectors(valid < kWidth ? static_cast<int>((valid + kLanes<Real> - 1) / kLanes<Real>)
                               : kColumnVectors),
        segments(rows * panels),
        across(panels > 1) {}
  Segment first;
  int64_t valid;     // units from the first on
  int vectors;       // of a segment
  int64_t segments;  // row by row, or of one row panel by panel
  bool across;

  int64_t rows_at_once() const { return kBlockVectors / vectors; }
  int64_t size() const { return segments * vectors; }
  bool is_full() const { return valid >= kWidth; }
};

template <class Real>
constexpr int64_t kRegister = kBlockVectors * kLanes<Real>;

// Calls each(m, segment) for the m-th segment.
template <class Real, class Each>
FASTRNN_INLINE void each_segment(const ProgramBlock<Real>& block, Each each) {
  Segment at = block.first;
  const int64_t panels = block.across, rows = !block.across;
  for (int64_t m = 0; m < block.segments; ++m) {
    each(m, at);
    at.row += rows;
    at.panel += panels;
    at.unit += panels * ProgramBlock<Real>::kWidth;
  }
}

// Calls each(lane) for the vectors of a segment. Most panels are full, and there the loop is
// unrolled.
template <class Real, class Each>
FASTRNN_INLINE void each_vector(const ProgramBlock<Real>& block, Each each) {
  if (block.vectors == kColumnVectors) {
    for (int j = 0; j < kColumnVectors; ++j) each(j * kLanes<Real>);
  } else {
    for (int j = 0; j < block.vectors; ++j) each(j * kLanes<Real>);
  }
}

// Fills a register: of(m, segment) yields what a segment gets at a lane.
template <class Real, class Of>
FASTRNN_INLINE void fill(const ProgramBlock<Real>& block, Real* to, Of of) {
  each_segment(block, [&](int64_t m, const Segment& at) {
    const auto value = of(m, at);
    each_vector(block, [&](int lane) { store<Real>(to + lane, value(lane)); });
    to += block.vectors * kLanes<Real>;
  });
}

// register[segment] = load(from(m, segment)) for what has room for whole vectors
template <class Real, class From>
FASTRNN_INLINE void take(const ProgramBlock<Real>& block, Real* to, From from) {
  fill(block, to, [&](int64_t m, const Segment& at) {
    const Real* own = from(m, at);
    return [own](int lane) { return load(own + lane); };
  });
}

// What `take` does for what ends with the last unit
template <class Real, class From>
FASTRNN_INLINE void take_first(const ProgramBlock<Real>& block, Real* to, From from) {
  if (block.is_full()) return take(block, to, from);
  fill(block, to, [&](int64_t m, const Segment& at) {
    const Real* own = from(m, at);
    return [own, &block](int lane) { return load_first(own + lane, block.valid - lane); };
  });
}

// One number for all units of a row
template <class Real, class Of>
FASTRNN_INLINE void take_number(const ProgramBlock<Real>& block, Real* to, Of of) {
  fill(block, to, [&](int64_t m, const Segment& at) {
    const Vec<Real> number = broadcast(of(m, at));
    return [number](int) { return number; };
  });
}

template <class Real, class To>
FASTRNN_INLINE void give(const ProgramBlock<Real>& block, const Real* from, To to) {
  each_segment(block, [&](int64_t, const Segment& at) {
    Real* own = to(at);
    each_vector(block, [&](int lane) { store(own + lane, load(from + lane)); });
    from += block.vectors * kLanes<Real>;
  });
}

template <class Real, class To>
FASTRNN_INLINE void give_first(const ProgramBlock<Real>& block, const Real* from, To to) {
  if (block.is_full()) return give(block, from, to);
  each_segment(block, [&](int64_t, const Segment& at) {
    Real* own = to(at);
    each_vector(block,
                [&](int lane) { store_first(own + lane, load(from + lane), block.valid - lane); });
    from += block.vectors * kLanes<Real>;
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

// A state of each row, whose rows state(segment) lists: the hidden one ends with the last unit,
// others have room for whole vectors.
template <class Real, class State>
FASTRNN_INLINE void take_state(const ProgramBlock<Real>& block, int number, Real* to, State state) {
  const auto from = [&](int64_t, const Segment& at) { return state(at) + at.unit; };
  if (number == kHidden) {
    take_first(block, to, from);
  } else {
    take(block, to, from);
  }
}

// A quantity of a unit among `count` of a panel
template <class Pointer>
FASTRNN_INLINE Pointer quantity(Pointer row, const Segment& at, int count, int number,
                                int64_t width) {
  return row + (at.panel * count + number) * width;
}

// What code of either pass reads
template <class Real, class Row>
FASTRNN_INLINE void take_source(const ProgramStep<Real>& own, int64_t H, const Row* rows,
                                const ProgramBlock<Real>& block, Op op, int a, Real* to) {
  switch (op) {
    case Op::state:
      take_state(block, a, to, [&](const Segment& at) { return rows[at.row].before[a]; });
      break;
    case Op::kept:
      take(block, to, [&](int64_t, const Segment& at) {
        return rows[at.row].saved + at.panel * own.kept_panel + a * block.kWidth;
      });
      break;
    case Op::vector:
      take_first(block, to,
                 [&](int64_t, const Segment& at) { return own.vectors + a * H + at.unit; });
      break;
    case Op::extra: {
      const Extra extra = own.extras[a];
      if (extra.per_unit) {
        take_first(block, to, [&](int64_t, const Segment& at) {
          return rows[at.row].extras + extra.offset + at.unit;
        });
      } else {
        take_number(block, to,
                    [&](int64_t, const Segment& at) { return rows[at.row].extras[extra.offset]; });
      }
      break;
    }
    case Op::constant:
      take_number(block, to, [&](int64_t, const Segment&) { return own.constants[a]; });
      break;
    default:  // sum
      take_number(block, to, [&](int64_t, const Segment& at) {
        return sum_of_panels(rows[at.row].sums, a, own.panels);
      });
  }
}

template <class Real, class Row>
FASTRNN_INLINE void add_to_sum(const ProgramStep<Real>& own, const Row* rows,
                               const ProgramBlock<Real>& block, const Real* from, int number) {
  each_segment(block, [&](int64_t, const Segment& at) {
    rows[at.row].sums[number * own.panels + at.panel] = sum_of_units(block, from);
    from += block.vectors * kLanes<Real>;
  });
}

// The gradient of the output joins that of the hidden state.
template <class Real>
FASTRNN_INLINE void add_from_above(const ProgramBlock<Real>& block, const BackwardRow<Real>* rows,
                                   Real* to) {
  each_segment(block, [&](int64_t, const Segment& at) {
    if (const Real* above = rows[at.row].d_y) {
      above += at.unit;
      each_vector(block, [&](int lane) {
        store(to + lane, load(to + lane) + load_first(above + lane, block.valid - lane));
      });
    }
    to += block.vectors * kLanes<Real>;
  });
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

// Computes the instructions from `at` on, as far as they do nothing else; returns the next.
// Registers that are full, as most are, have loops that the compiler unrolls, where there is little
// in them.
template <class Real>
FASTRNN_NOINLINE const Instruction* compute(const Instruction* at, const Instruction* end,
                                            Real* registers, int64_t vectors) {
  const int64_t size = vectors * kLanes<Real>;
  const Vec<Real> zero = {}, one = zero + 1;
#define FASTRNN_EACH(size, value)                                                     \
  for (int64_t i = 0; i < size; i += kLanes<Real>) {                                  \
    const Vec<Real> a = load(from_a + i), b = load(from_b + i), c = load(from_c + i); \
    (void)a, (void)b, (void)c;                                                        \
    store<Real>(to + i, value);                                                       \
  }
#define FASTRNN_LONG(name, value) \
  case Op::name:                  \
    FASTRNN_EACH(size, value)     \
    break;
#define FASTRNN_SHORT(name, value)         \
  case Op::name:                           \
    if (vectors == kBlockVectors) {        \
      FASTRNN_EACH(kRegister<Real>, value) \
    } else {                               \
      FASTRNN_EACH(size, value)            \
    }                                      \
    break;
  for (; at < end; ++at) {
    Real* to = registers + at->to * kRegister<Real>;
    const Real* from_a = registers + at->a * kRegister<Real>;
    const Real* from_b = registers + at->b * kRegister<Real>;
    const Real* from_c = registers + at->c * kRegister<Real>;
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
      default:
        return at;
    }
  }
#undef FASTRNN_EACH
#undef FASTRNN_LONG
#undef FASTRNN_SHORT
  return end;
}

// Runs the code of rows: a register has a number for each segment, one after the other. `place`
// says where that of a segment is kept: place(op, segment, number), the first of what its units
// have.
template <class Real, class Row, class Place>
FASTRNN_INLINE void run_rows(const ProgramStep<Real>& own, const Row* rows,
                             const ProgramBlock<Real>& block, Place place) {
  const int64_t vectors = (block.segments + kLanes<Real> - 1) / kLanes<Real>;
  const Instruction* const end = own.of_rows.first + own.of_rows.count;
  for (const Instruction* at = own.of_rows.first; at < end;) {
    Real* to = own.registers + at->to * kRegister<Real>;
    const Real* from = own.registers + at->a * kRegister<Real>;
    switch (at->op) {
      case Op::constant:
        for (int64_t i = 0; i < vectors * kLanes<Real>; ++i) to[i] = own.constants[at->a];
        break;
      case Op::sum:
        each_segment(block, [&](int64_t m, const Segment& segment) {
          to[m] = sum_of_panels(rows[segment.row].sums, at->a, own.panels);
        });
        break;
      case Op::kept:
      case Op::temp:
        each_segment(block, [&](int64_t m, const Segment& segment) {
          to[m] = *place(at->op, segment, at->a);
        });
        break;
      case Op::keep:
      case Op::set_temp:
        each_segment(block, [&](int64_t m, const Segment& segment) {
          *place(at->op, segment, at->to) = from[m];
        });
        break;
      default:
        at = compute(at, end, own.registers, vectors);
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
