// exp, expm1, sigmoid, tanh, relu and softplus of a vector. Valid for every input, infinities
// included; NaN gives NaN. Error at most 4 ULP (tests/test_math.py holds them to it over the whole
// range, denormal results included).
//
// All start from exp(-a), of a >= 0 but for exp and expm1 themselves, split as 2^n * (1 + p): p =
// expm1(r), r = -a - n ln 2, |r| <= ln(2) / 2. Keeping p apart from the 1 is what leaves tanh its
// relative accuracy near zero.

template <class Real>
struct MathOf;

template <>
struct MathOf<float> {
  static constexpr float kRound =
      12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
  static constexpr float kLn2High = 0.693145751953125f;  // 15 bits: its product with n is exact
  static constexpr float kLn2Low = 1.42860682030941723212e-6f;
  static constexpr float kInvLn2 = 1.44269504088896340736f;
  static constexpr float kVanishes = 104.0f;  // exp(-104) rounds to zero
  static constexpr float kOverflows = 89.0f;
  static constexpr int kMantissaBits = 23;
  static constexpr int kExponentBias = 127;
  static constexpr int kHeadroom = 64;  // 2^(n + 64) is normal for every n that occurs
  static constexpr float kUndoHeadroom = 0x1p-64f;
  static constexpr int kTerms = 7;     // the Taylor series' next term is below 0.2 ULP
  static constexpr int kLogTerms = 7;  // likewise that of atanh
};

template <>
struct MathOf<double> {
  static constexpr double kRound = 6755399441055744.0;
  static constexpr double kLn2High = 0.693147180369123816490;
  static constexpr double kLn2Low = 1.90821492927058770002e-10;
  static constexpr double kInvLn2 = 1.44269504088896340736;
  static constexpr double kVanishes = 746.0;
  static constexpr double kOverflows = 710.0;
  static constexpr int kMantissaBits = 52;
  static constexpr int kExponentBias = 1023;
  static constexpr int kHeadroom = 512;
  static constexpr double kUndoHeadroom = 0x1p-512;
  static constexpr int kTerms = 13;
  static constexpr int kLogTerms = 16;
};

template <class V>
struct RealOf;
template <>
struct RealOf<Vec<float>> {
  typedef float Real;
};
template <>
struct RealOf<Vec<double>> {
  typedef double Real;
};

template <class V>
using IntsOf = typename VecOf<typename RealOf<V>::Real>::Int;

constexpr double inverse_factorial(int n) { return n < 2 ? 1.0 : inverse_factorial(n - 1) / n; }

template <class V>
struct NegativeExp {
  V n;  // as the low bits of kRound + n
  V p;  // expm1 of the remainder
};

// exp(-a) of a >= 0 as 2^n * (1 + p); beyond `limit` it stays what it is there
template <class V>
FASTRNN_INLINE NegativeExp<V> negative_exp(V a, typename RealOf<V>::Real limit) {
  typedef typename RealOf<V>::Real Real;
  typedef MathOf<Real> M;
  a = a > limit ? broadcast(limit) : a;  // a NaN fails the comparison and stays
  const V shifted = broadcast(M::kRound) - a * M::kInvLn2;
  const V n = shifted - M::kRound;
  const V r = (-a - n * M::kLn2High) - n * M::kLn2Low;
  V q = broadcast(static_cast<Real>(inverse_factorial(M::kTerms)));
#pragma GCC unroll 16
  for (int i = M::kTerms - 1; i >= 2; --i) q = q * r + static_cast<Real>(inverse_factorial(i));
  return {shifted, r + r * r * q};
}

template <class V>
FASTRNN_INLINE IntsOf<V> bits(V x) {
  return (IntsOf<V>)x;
}

// 2^(n + offset), by writing the exponent; n comes as the low bits of kRound + n
template <class V>
FASTRNN_INLINE V power_of_two(V shifted, int offset) {
  typedef MathOf<typename RealOf<V>::Real> M;
  return (V)((bits(shifted) + (M::kExponentBias + offset)) << M::kMantissaBits);
}

template <class V>
FASTRNN_INLINE V magnitude(V x) {
  return (V)(bits(x) & ~bits(-V{}));
}

template <class V>
FASTRNN_INLINE V copy_sign(V x, V sign) {
  return (V)(bits(magnitude(x)) | (bits(sign) & bits(-V{})));
}

// exp(-a) of a >= 0. The detour over 2^(n + headroom) rounds a denormal result once.
template <class V>
FASTRNN_INLINE V exp_of_negative(V a) {
  typedef MathOf<typename RealOf<V>::Real> M;
  const NegativeExp<V> parts = negative_exp(a, M::kVanishes);
  const V scale = power_of_two(parts.n, M::kHeadroom);
  return (scale + scale * parts.p) * M::kUndoHeadroom;
}

// exp(-a) - 1 of a >= 0, as 2^n * p + (2^n - 1); in both precisions -1 from a = 40 on
template <class V>
FASTRNN_INLINE V negative_expm1(V a) {
  const NegativeExp<V> parts = negative_exp(a, 40);
  const V scale = power_of_two(parts.n, 0);
  return scale * parts.p + (scale - 1);
}

// 2^n in two steps, since neither of them is denormal or overflows
template <class V>
FASTRNN_INLINE V exp(V x) {
  typedef MathOf<typename RealOf<V>::Real> M;
  const V below = x > M::kOverflows ? V{} + M::kOverflows : x;
  const NegativeExp<V> parts = negative_exp(-below, M::kVanishes);
  const IntsOf<V> n = bits(parts.n) - bits(V{} + M::kRound), half = n >> 1;
  const V first = (V)((half + M::kExponentBias) << M::kMantissaBits);
  const V second = (V)((n - half + M::kExponentBias) << M::kMantissaBits);
  return (first + first * parts.p) * second;
}

// Above 60 the 1 is lost in rounding, in both precisions.
template <class V>
FASTRNN_INLINE V expm1(V x) {
  const V below = x > 60 ? V{} + 60 : x;
  const NegativeExp<V> parts = negative_exp(-below, 40);
  const V scale = power_of_two(parts.n, 0);
  return x > 60 ? exp(x) : scale * parts.p + (scale - 1);
}

// e / (1 + e) or 1 / (1 + e) with e = exp(-|x|): neither cancels nor overflows.
template <class V>
FASTRNN_INLINE V sigmoid(V x) {
  const V e = exp_of_negative(magnitude(x));
  return (x < 0 ? e : V{} + 1) / (1 + e);
}

// -t / (2 + t) with t = expm1(-2|x|)
template <class V>
FASTRNN_INLINE V tanh(V x) {
  const V a = magnitude(x);
  const V t = negative_expm1(a + a);
  return copy_sign(t / (2 + t), x);
}

// max(x, 0) + log(1 + e) with e = exp(-|x|), the logarithm as 2 atanh(s), s = e / (2 + e) <= 1 / 3
template <class V>
FASTRNN_INLINE V softplus(V x) {
  typedef typename RealOf<V>::Real Real;
  typedef MathOf<Real> M;
  const V e = exp_of_negative(magnitude(x));
  const V s = e / (2 + e), square = s * s;
  V q = broadcast(static_cast<Real>(1.0 / (2 * M::kLogTerms + 1)));
#pragma GCC unroll 32
  for (int i = M::kLogTerms - 1; i >= 1; --i) q = q * square + static_cast<Real>(1.0 / (2 * i + 1));
  return (x < 0 ? V{} : x) + 2 * (s + s * square * q);
}

template <class V>
FASTRNN_INLINE V relu(V x) {
  return x < 0 ? V{} : x;
}

// x where relu's value h let its argument through, else zero; NaN counts as let through, as in
// torch.
template <class V>
FASTRNN_INLINE V where_open(V h, V x) {
  return h <= 0 ? V{} : x;
}
