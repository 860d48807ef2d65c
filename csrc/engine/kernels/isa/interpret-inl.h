// Cells that were written as programs: an interpreter of their code, one instruction at a time over
// some rows and units, whose registers stay in the first-level cache. Each instruction is compiled
// once, and none is fused with another, so that a row's results depend on that row alone.

// Vectors that a register holds
constexpr int kBlockVectors = 12;

// Some rows and the units of a panel
template <class Real>
struct ProgramBlock {
  ProgramBlock(int64_t H, int64_t panel, int64_t rows)
      : unit(panel * kColumnVectors * kLanes<Real>),
        valid(H - unit),
        vectors(valid < kColumnVectors * kLanes<Real>
                    ? static_cast<int>((valid + kLanes<Real> - 1) / kLanes<Real>)
                    : kColumnVectors),
        rows(rows) {}
  int64_t unit;   // the first
  int64_t valid;  // units from there on
  int vectors;    // of a row
  int64_t rows;

  int64_t rows_at_once() const { return kBlockVectors / vectors; }
  int64_t size() const { return rows * vectors; }
  bool is_full() const { return valid >= kColumnVectors * kLanes<Real>; }
};

template <class Real>
constexpr int64_t kRegister = kBlockVectors * kLanes<Real>;

// Calls each(j) for the vectors of a row. Most panels are full, and there the loop is unrolled.
template <class Real, class Each>
FASTRNN_INLINE void each_vector(const ProgramBlock<Real>& block, Each each) {
  if (block.vectors == kColumnVectors) {
    for (int j = 0; j < kColumnVectors; ++j) each(j);
  } else {
    for (int j = 0; j < block.vectors; ++j) each(j);
  }
}

// register[row] = load(from(row)) for what has room for whole vectors
template <class Real, class From>
FASTRNN_INLINE void take(const ProgramBlock<Real>& block, Real* to, From from) {
  for (int64_t m = 0; m < block.rows; ++m, to += block.vectors * kLanes<Real>) {
    const Real* row = from(m);
    each_vector(block, [&](int j) { store(to + j * kLanes<Real>, load(row + j * kLanes<Real>)); });
  }
}

// The sum of two
template <class Real, class From, class Other>
FASTRNN_INLINE void take_sum(const ProgramBlock<Real>& block, Real* to, From from, Other other) {
  for (int64_t m = 0; m < block.rows; ++m, to += block.vectors * kLanes<Real>) {
    const Real* row = from(m);
    const Real* added = other(m);
    each_vector(block, [&](int j) {
      const int64_t lane = j * kLanes<Real>;
      store(to + lane, load(row + lane) + load(added + lane));
    });
  }
}

// What `take` does for what ends with the last unit
template <class Real, class From>
FASTRNN_INLINE void take_first(const ProgramBlock<Real>& block, Real* to, From from) {
  if (block.is_full()) return take(block, to, from);
  for (int64_t m = 0; m < block.rows; ++m) {
    const Real* row = from(m);
    for (int j = 0; j < block.vectors; ++j, to += kLanes<Real>)
      store(to, load_first(row + j * kLanes<Real>, block.valid - j * kLanes<Real>));
  }
}

// One number for all units of a row
template <class Real, class Of>
FASTRNN_INLINE void take_number(const ProgramBlock<Real>& block, Real* to, Of of) {
  for (int64_t m = 0; m < block.rows; ++m, to += block.vectors * kLanes<Real>) {
    const Vec<Real> number = broadcast(of(m));
    each_vector(block, [&](int j) { store(to + j * kLanes<Real>, number); });
  }
}

template <class Real, class To>
FASTRNN_INLINE void give(const ProgramBlock<Real>& block, const Real* from, To to) {
  for (int64_t m = 0; m < block.rows; ++m, from += block.vectors * kLanes<Real>) {
    Real* row = to(m);
    each_vector(block,
                [&](int j) { store(row + j * kLanes<Real>, load(from + j * kLanes<Real>)); });
  }
}

template <class Real, class To>
FASTRNN_INLINE void give_first(const ProgramBlock<Real>& block, const Real* from, To to) {
  if (block.is_full()) return give(block, from, to);
  for (int64_t m = 0; m < block.rows; ++m) {
    Real* row = to(m);
    for (int j = 0; j < block.vectors; ++j, from += kLanes<Real>)
      store_first(row + j * kLanes<Real>, load(from), block.valid - j * kLanes<Real>);
  }
}

// The sum over a panel's units, lane by lane first
template <class Real>
FASTRNN_INLINE Real sum_of_units(const ProgramBlock<Real>& block, const Real* from) {
  Vec<Real> lanes = {};
  for (int j = 0; j < block.vectors; ++j)
    lanes += load_first(from + j * kLanes<Real>, block.valid - j * kLanes<Real>);
  Real sum = 0;
  for (int i = 0; i < kLanes<Real>; ++i) sum += lanes[i];
  return sum;
}

template <class Real>
FASTRNN_INLINE void add_to_sum(const ProgramBlock<Real>& block, int64_t panel, const Real* from,
                               int64_t sum, int64_t panels, Real* sums) {
  sums[sum * panels + panel] = sum_of_units(block, from);
}

template <class Real>
FASTRNN_INLINE Real sum_of_panels(const Real* sums, int64_t sum, int64_t panels) {
  Real total = 0;
  for (int64_t i = 0; i < panels; ++i) total += sums[sum * panels + i];
  return total;
}

// A per-step value of the caller's
template <class Real, class From>
FASTRNN_INLINE void take_extra(const ProgramStep<Real>& own, const ProgramBlock<Real>& block,
                               int number, Real* to, From from) {
  const Extra& extra = own.extras[number];
  if (extra.per_unit) {
    take_first(block, to, [&](int64_t m) { return from(m) + extra.offset + block.unit; });
  } else {
    take_number(block, to, [&](int64_t m) { return from(m)[extra.offset]; });
  }
}

// The gradient of the output joins that of the hidden state.
template <class Real>
FASTRNN_INLINE void add_from_above(const ProgramBlock<Real>& block, const BackwardRow<Real>* rows,
                                   Real* to) {
  for (int64_t m = 0; m < block.rows; ++m, to += block.vectors * kLanes<Real>) {
    if (!rows[m].d_y) continue;
    const Real* row = rows[m].d_y + block.unit;
    each_vector(block, [&](int j) {
      const int64_t lane = j * kLanes<Real>;
      store(to + lane, load(to + lane) + load_first(row + lane, block.valid - lane));
    });
  }
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
