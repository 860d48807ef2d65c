// Rows as a format of the weights (formats-inl.h) meets them: where they lie, or rounded.

// Of a row that has been rounded
FASTRNN_INLINE int64_t bytes_of_row(int64_t K) {
  return rounded_row_bytes(round_up(K, FormatOf<Int8>::kGroup));
}

// A row as int8 meets it (rounded_row_bytes): elements beyond K are not read
FASTRNN_NOINLINE void round_row(const float* row, int64_t K, char* to) {
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
  const float scale = scale_of(number);
  __builtin_memcpy(to, &scale, sizeof scale);
  to += kRowScaleBytes;
  const int64_t whole = scale > 0 ? K / lanes * lanes : 0;
  __builtin_memset(to + 2 * whole, 0,
                   2 * (round_up(K, FormatOf<Int8>::kGroup) + kRowPadding - whole));
  if (!(scale > 0)) return;
  for (int64_t k = 0; k < K; k += lanes) {
    const Ints own = rounded_quotient(load_first(row + k, K - k), scale);
    int16_t elements[lanes];
    for (int i = 0; i < lanes; ++i) elements[i] = static_cast<int16_t>(own[i]);
    __builtin_memcpy(to + 2 * k, elements, 2 * (K - k < lanes ? K - k : lanes));
  }
}

// Rows of K numbers as a format meets them: where they lie, or rounded in `prepared`
template <class F>
class Lefts {
 public:
  typedef NumberOf<F> Real;
  Lefts(const char* prepared, int64_t K) : prepared_(prepared), bytes_(bytes_of_row(K)) {}

  // Lists `count` rows from the first-th on, each from its k-th element on, and their scales if
  // they have any. row(r) is the r-th.
  template <class Row>
  void list(int64_t first, int64_t count, int64_t k, Row row, const LeftOf<F>** a,
            float* scales) const {
    for (int64_t r = 0; r < count; ++r) {
      if constexpr (kRoundsRows<F>) {
        const char* own = prepared_ + (first + r) * bytes_;
        a[r] = reinterpret_cast<const int16_t*>(own + kRowScaleBytes) + k;
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
    for (int64_t r = 0; r < count; ++r) round_row(row(r), K, prepared + r * bytes_of_row(K));
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
        states_at_(p.operands + (kRoundsRows<F> && p.I > 0 ? p.count * bytes_of_row(p.I) : 0)),
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
