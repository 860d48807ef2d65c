// Rows as a format of the weights (formats-inl.h) meets them: where they lie, or rounded.

// Of a row that has been rounded
template <class F>
FASTRNN_INLINE int64_t bytes_of_row(int64_t K) {
  return rounded_row_bytes(round_up(K, FormatOf<F>::kGroup), sizeof(LeftOf<F>));
}

// The scale of a row of K elements
FASTRNN_INLINE float scale_of_row(const float* row, int64_t K) {
  constexpr int lanes = kLanes<float>;
  const Ints magnitude = Ints{} + 0x7fffffff;
  Ints most = {};
  for (int64_t k = 0; k < K; k += lanes) {
    const Ints own = (Ints)load_first(row + k, K - k) & magnitude;
    most = own > most ? own : most;
  }
  int32_t largest = 0;
  for (int i = 0; i < lanes; ++i) largest = most[i] > largest ? most[i] : largest;
  float number;
  __builtin_memcpy(&number, &largest, sizeof number);
  return scale_of(number);
}

FASTRNN_INLINE Ints rounded_for(Int8, Vec<float> row, float scale) {
  return rounded_quotient(row, scale);
}

// A row as a format meets it (rounded_row_bytes): elements beyond K are not read
template <class F>
FASTRNN_NOINLINE void round_row(const float* row, int64_t K, char* to) {
  constexpr int lanes = kLanes<float>;
  constexpr int64_t bytes = sizeof(LeftOf<F>);
  const float scale = kScales<F> ? scale_of_row(row, K) : 1;
  __builtin_memcpy(to, &scale, sizeof scale);
  to += kRowScaleBytes;
  const int64_t whole = scale > 0 ? K / lanes * lanes : 0;
  __builtin_memset(to + bytes * whole, FormatOf<F>::kZero,
                   bytes * (round_up(K, FormatOf<F>::kGroup) + kRowPadding - whole));
  if (!(scale > 0)) return;
  for (int64_t k = 0; k < K; k += lanes) {
    const Ints own = rounded_for(F{}, load_first(row + k, K - k), scale);
    LeftOf<F> elements[lanes];
    for (int i = 0; i < lanes; ++i) elements[i] = static_cast<LeftOf<F>>(own[i]);
    __builtin_memcpy(to + bytes * k, elements, bytes * (K - k < lanes ? K - k : lanes));
  }
}

// Rows of K numbers as a format meets them: where they lie, or rounded in `prepared`
template <class F>
class Lefts {
 public:
  typedef NumberOf<F> Real;
  Lefts(const char* prepared, int64_t K) : prepared_(prepared), bytes_(bytes_of_row<F>(K)) {}

  // Lists `count` rows, one at the least, from the first-th on, each from its k-th element on, and
  // their scales if they have any. row(r) is the r-th.
  template <class Row>
  void list(int64_t first, int64_t count, int64_t k, Row row, const LeftOf<F>** a,
            float* scales) const {
    if (count < 1) __builtin_unreachable();
    for (int64_t r = 0; r < count; ++r) {
      if constexpr (kRoundsRows<F>) {
        const char* own = prepared_ + (first + r) * bytes_;
        a[r] = reinterpret_cast<const LeftOf<F>*>(own + kRowScaleBytes) + k;
        __builtin_memcpy(scales + r, own, sizeof *scales);
      } else {
        a[r] = row(first + r) + k;
      }
    }
  }

 private:
  const char* prepared_;
  int64_t bytes_;
};

// Rounds `count` rows of K numbers, the r-th of which is row(r), where the format asks for that.
template <class F, class Row>
FASTRNN_INLINE void prepare_rows(int64_t count, int64_t K, char* prepared, Row row) {
  if constexpr (kRoundsRows<F>) {
    for (int64_t r = 0; r < count; ++r) round_row<F>(row(r), K, prepared + r * bytes_of_row<F>(K));
  }
}

// What a step multiplies, as a format meets it: its rows' input, unless that is projected already,
// and what its product's weights belong to.
template <class F>
class StepLefts {
 public:
  typedef NumberOf<F> Real;
  StepLefts(const ForwardStep<Real>& p, int product)
      : p_(p),
        product_(product),
        states_at_(p.operands + (kRoundsRows<F> && p.I > 0 ? p.count * bytes_of_row<F>(p.I) : 0)),
        inputs_(p.operands, p.I),
        states_(states_at_, p.K) {
    if (p.I > 0) prepare_rows<F>(p.count, p.I, p.operands, Input{p.rows});
    if (p.K > 0) prepare_rows<F>(p.count, p.K, states_at_, State{p.rows, product});
  }

  void list_inputs(int64_t first, int64_t count, const LeftOf<F>** a, float* scales) const {
    inputs_.list(first, count, 0, Input{p_.rows}, a, scales);
  }
  void list_states(int64_t first, int64_t count, int64_t k, const LeftOf<F>** a,
                   float* scales) const {
    states_.list(first, count, k, State{p_.rows, product_}, a, scales);
  }

 private:
  struct Input {
    const ForwardRow<Real>* rows;
    const Real* operator()(int64_t r) const { return rows[r].x; }
  };
  struct State {
    const ForwardRow<Real>* rows;
    int product;
    const Real* operator()(int64_t r) const {
      return product == 0 ? rows[r].before[kHidden] : rows[r].operands[product];
    }
  };
  const ForwardStep<Real>& p_;
  int product_;
  char* states_at_;
  Lefts<F> inputs_, states_;
};
