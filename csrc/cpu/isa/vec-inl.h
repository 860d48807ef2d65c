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

// The first n lanes of v, zero in the others
template <class Real>
FASTRNN_INLINE Vec<Real> keep_first(Vec<Real> v, int64_t n) {
  if (n >= kLanes<Real>) return v;
  for (int64_t i = n; i < kLanes<Real>; ++i) v[i] = 0;
  return v;
}

// Lists of lane numbers, for shuffles.
template <int... I>
struct Lanes {};

template <int N, int... I>
struct CountTo : CountTo<N - 1, N - 1, I...> {};

template <int... I>
struct CountTo<0, I...> {
  typedef Lanes<I...> List;
};

// Interleave the lower (upper) halves of a and b: a0 b0 a1 b1 ...
template <int kFirst, class V, int... I>
FASTRNN_INLINE V interleave(V a, V b, Lanes<I...>) {
  constexpr int n = sizeof...(I);
  return __builtin_shufflevector(a, b, (kFirst + I / 2 + (I % 2) * n)...);
}

// Transpose a square block held in registers: as many perfect shuffles as the block's size has
// bits.
template <class Real>
FASTRNN_INLINE void transpose(Vec<Real> (&v)[kLanes<Real>]) {
  constexpr int n = kLanes<Real>;
  typedef typename CountTo<n>::List List;
  for (int bits = 1; bits < n; bits *= 2) {
    Vec<Real> t[n];
    for (int i = 0; i < n / 2; ++i) {
      t[2 * i] = interleave<0>(v[i], v[i + n / 2], List());
      t[2 * i + 1] = interleave<n / 2>(v[i], v[i + n / 2], List());
    }
    for (int i = 0; i < n; ++i) v[i] = t[i];
  }
}
