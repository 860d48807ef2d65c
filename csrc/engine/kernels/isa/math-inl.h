// exp, expm1, sigmoid, tanh, relu and softplus of a vector. Valid for every input, infinities
// included; NaN gives NaN. Error at most 4 ULP (tests/test_math.py holds them to it over the whole
// range, denormal results included).
//
// All start from exp(-a), of a >= 0 but for exp and expm1 themselves, split as 2^n * (1 + p): p =
// expm1(r), r = -a - n ln 2, |r| <= ln(2) / 2. Keeping p apart from the 1 is what leaves tanh its
// relative accuracy near zero.
//
// A step's equations wait for one another more than for a free unit of the processor, so what
// matters is the longest chain of operations that need each other's results.

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
  static constexpr int kTerms = 5;
  // (expm1(r) - r) / r^2 for |r| <= ln(2) / 2: the polynomial whose largest error, seen from
  // expm1(r), is the least, 0.22 * 2^-24
  static constexpr double kExp[kTerms] = {0.499999981557, 0.16666543634, 0.0416671994427,
                                          0.00836651933227, 0.00138825449101};
  static constexpr int kLogTerms = 7;  // the next term of atanh's series is below 0.2 ULP
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
  static constexpr int kTerms = 10;
  // likewise; 0.16 * 2^-53
  static constexpr double kExp[kTerms] = {0.50000000000000051745,   0.16666666666666589354,
                                          0.041666666666576797085,  0.0083333333333895080293,
                                          0.0013888888931553758614, 0.00019841269719094968045,
                                          2.4801505285112305841e-5, 2.7557407469415623464e-6,
                                          2.762603394944407282e-7,  2.505379670002706118e-8};
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

template <class V>
FASTRNN_INLINE IntsOf<V> bits(V x) {
  return (IntsOf<V>)x;
}

// Taking its terms in pairs halves a polynomial's chain.
template <class V, int N>
FASTRNN_INLINE V polynomial(const double (&terms)[N], V x, V square) {
  typedef typename RealOf<V>::Real Real;
  V sum = {};
#pragma GCC unroll 16
  for (int i = (N - 1) / 2 * 2; i >= 0; i -= 2) {
    V pair = broadcast(static_cast<Real>(terms[i]));
    if (i + 1 < N) pair += x * static_cast<Real>(terms[i + 1]);
    sum = i + 2 < N ? sum * square + pair : pair;
  }
  return sum;
}

// exp(-a) of a >= 0 as 2^n * (1 + p); beyond `limit` it stays what it is there
template <class V>
struct NegativeExp {
  V n;  // n + offset as the low bits of a number
  V p;  // expm1 of the remainder
};

template <class V>
FASTRNN_INLINE NegativeExp<V> negative_exp(V a, typename RealOf<V>::Real limit, int offset) {
  typedef MathOf<typename RealOf<V>::Real> M;
  a = a > limit ? broadcast(limit) : a;  // a NaN fails the comparison and stays
  const V shifted = broadcast(M::kRound + offset) - a * M::kInvLn2;
  const V n = shifted - (M::kRound + offset);
  const V r = (-a - n * M::kLn2High) - n * M::kLn2Low;
  const V square = r * r;
  return {shifted, r + square * polynomial(M::kExp, r, square)};
}

// 2^(n + offset) by writing the exponent, if the bias was part of the offset
template <class V>
FASTRNN_INLINE V power_of_two(V n) {
  return (V)(bits(n) << MathOf<typename RealOf<V>::Real>::kMantissaBits);
}

template <class V>
FASTRNN_INLINE V magnitude(V x) {
  return (V)(bits(x) & ~bits(-V{}));
}

template <class V>
FASTRNN_INLINE V copy_sign(V x, V sign) {
  return (V)(bits(magnitude(x)) | (bits(sign) & bits(-V{})));
}

// 2^headroom * exp(-a) of a >= 0: normal for every result that does not round to zero
template <class V>
FASTRNN_INLINE V scaled_exp_of_negative(V a) {
  typedef MathOf<typename RealOf<V>::Real> M;
  const NegativeExp<V> parts = negative_exp(a, M::kVanishes, M::kExponentBias + M::kHeadroom);
  const V scale = power_of_two(parts.n);
  return scale + scale * parts.p;
}

// exp(-a) of a >= 0; a denormal result is rounded once
template <class V>
FASTRNN_INLINE V exp_of_negative(V a) {
  return scaled_exp_of_negative(a) * MathOf<typename RealOf<V>::Real>::kUndoHeadroom;
}

// exp(-a) - 1 of a >= 0, as 2^n * p + (2^n - 1); in both precisions -1 from a = 40 on
template <class V>
FASTRNN_INLINE V negative_expm1(V a) {
  const NegativeExp<V> parts = negative_exp(a, 40, MathOf<typename RealOf<V>::Real>::kExponentBias);
  const V scale = power_of_two(parts.n);
  return scale * parts.p + (scale - 1);
}

// 2^n in two steps, since neither of them is denormal or overflows
template <class V>
FASTRNN_INLINE V exp(V x) {
  typedef MathOf<typename RealOf<V>::Real> M;
  const V below = x > M::kOverflows ? V{} + M::kOverflows : x;
  const NegativeExp<V> parts = negative_exp(-below, M::kVanishes, 0);
  const IntsOf<V> n = bits(parts.n) - bits(V{} + M::kRound), half = n >> 1;
  const V first = (V)((half + M::kExponentBias) << M::kMantissaBits);
  const V second = (V)((n - half + M::kExponentBias) << M::kMantissaBits);
  return (first + first * parts.p) * second;
}

// Above 60 the 1 is lost in rounding, in both precisions.
template <class V>
FASTRNN_INLINE V expm1(V x) {
  const V below = x > 60 ? V{} + 60 : x;
  const NegativeExp<V> parts =
      negative_exp(-below, 40, MathOf<typename RealOf<V>::Real>::kExponentBias);
  const V scale = power_of_two(parts.n);
  return x > 60 ? exp(x) : scale * parts.p + (scale - 1);
}

// e / (1 + e) or 1 / (1 + e) with e = exp(-|x|): neither cancels nor overflows. Both are scaled, so
// that a denormal result is rounded by the division.
template <class V>
FASTRNN_INLINE V sigmoid(V x) {
  typedef MathOf<typename RealOf<V>::Real> M;
  const V one = V{} + 1 / M::kUndoHeadroom, e = scaled_exp_of_negative(magnitude(x));
  return (bits(x) < 0 ? e : one) / (one + e);
}

// -t / (2 + t) with t = expm1(-2|x|)
template <class V>
FASTRNN_INLINE V tanh(V x) {
  const V a = magnitude(x);
  const V t = negative_expm1(a + a);
  return copy_sign(t, x) / (2 + t);
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
