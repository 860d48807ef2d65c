// A vector of lanes as wide as the ISA's registers, in GCC's and Clang's vector extensions.

template <class Real>
struct VecOf;

template <>
struct VecOf<float> {
  typedef float Vec __attribute__((vector_size(FASTRNN_VECTOR_BYTES)));
  typedef int32_t Int __attribute__((vector_size(FASTRNN_VECTOR_BYTES)));
};

template <>
struct VecOf<double> {
  typedef double Vec __attribute__((vector_size(FASTRNN_VECTOR_BYTES)));
  typedef int64_t Int __attribute__((vector_size(FASTRNN_VECTOR_BYTES)));
};

template <class Real>
using Vec = typename VecOf<Real>::Vec;

template <class Real>
constexpr int kLanes = FASTRNN_VECTOR_BYTES / static_cast<int>(sizeof(Real));

// Unaligned on purpose: torch's rows start anywhere, and an aligned address costs nothing extra.
template <class Real>
FASTRNN_INLINE Vec<Real> load(const Real* p) {
  Vec<Real> v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

template <class Real>
FASTRNN_INLINE void store(Real* p, Vec<Real> v) {
  __builtin_memcpy(p, &v, sizeof v);
}

// The first n lanes; the others read as zero and are not written.
template <class Real>
FASTRNN_INLINE Vec<Real> load_first(const Real* p, int64_t n) {
  if (n >= kLanes<Real>) return load(p);
  Vec<Real> v = {};
  for (int i = 0; i < n; ++i) v[i] = p[i];
  return v;
}

template <class Real>
FASTRNN_INLINE void store_first(Real* p, Vec<Real> v, int64_t n) {
  if (n >= kLanes<Real>) return store(p, v);
  for (int i = 0; i < n; ++i) p[i] = v[i];
}

template <class Real>
FASTRNN_INLINE Vec<Real> broadcast(Real x) {
  return x - Vec<Real>{};
}

FASTRNN_INLINE int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// Lists of lane numbers, for shuffles.
template <int... I>
struct Lanes {};

template <int N, int... I>
struct CountTo : CountTo<N - 1, N - 1, I...> {};

template <int... I>
struct CountTo<0, I...> {
  typedef Lanes<I...> List;
};

// Registers are made of sections of 16 bytes, within which shuffles are cheapest on every
// processor.
template <class Real>
constexpr int kSection = 16 / static_cast<int>(sizeof(Real));

// Lanes of a, and from kLanes on of b. GCC has had Clang's word for it only since version 12.
template <class Real, int... I>
FASTRNN_INLINE Vec<Real> shuffle(Vec<Real> a, Vec<Real> b, Lanes<I...>) {
#ifdef __clang__
  return __builtin_shufflevector(a, b, I...);
#else
  return __builtin_shuffle(a, b, typename VecOf<Real>::Int{I...});
#endif
}

// In each section, interleave the lower (upper) halves of a's and b's: a0 b0 a1 b1 ...
template <bool kUpper, class Real, int... I>
FASTRNN_INLINE Vec<Real> interleave(Vec<Real> a, Vec<Real> b, Lanes<I...>) {
  constexpr int n = kLanes<Real>, s = kSection<Real>;
  return shuffle<Real>(a, b, Lanes<(I / s * s + kUpper * (s / 2) + I % s / 2 + (I % 2) * n)...>{});
}

// Every second section of a, from the first (second) on, then those of b.
template <bool kSecond, class Real, int... I>
FASTRNN_INLINE Vec<Real> thin(Vec<Real> a, Vec<Real> b, Lanes<I...>) {
  constexpr int s = kSection<Real>;
  return shuffle<Real>(a, b, Lanes<((I / s * 2 + kSecond) * s + I % s)...>{});
}

// Transpose a square block held in registers: the blocks that sections make by perfect shuffles,
// then the sections themselves by inverse ones; each takes as many rounds as its size has bits.
template <class Real>
FASTRNN_INLINE void transpose(Vec<Real> (&v)[kLanes<Real>]) {
  constexpr int n = kLanes<Real>, s = kSection<Real>, sections = n / s;
  constexpr typename CountTo<n>::List lanes{};
  Vec<Real> t[n];
  for (int round = 1; round < s; round *= 2) {
    for (int block = 0; block < n; block += s) {
      for (int i = 0; i < s / 2; ++i) {
        const Vec<Real> a = v[block + i], b = v[block + i + s / 2];
        t[block + 2 * i] = interleave<false, Real>(a, b, lanes);
        t[block + 2 * i + 1] = interleave<true, Real>(a, b, lanes);
      }
    }
    for (int i = 0; i < n; ++i) v[i] = t[i];
  }
  for (int round = 1; round < sections; round *= 2) {
    for (int column = 0; column < s; ++column) {
      for (int i = 0; i < sections / 2; ++i) {
        const Vec<Real> a = v[2 * i * s + column], b = v[(2 * i + 1) * s + column];
        t[i * s + column] = thin<false, Real>(a, b, lanes);
        t[(i + sections / 2) * s + column] = thin<true, Real>(a, b, lanes);
      }
    }
    for (int i = 0; i < n; ++i) v[i] = t[i];
  }
}
