// Dot products within each lane, of four bytes or of two numbers of bfloat16, which some processors
// of an instruction set have instructions for. A compilation's flags say whether it may use them;
// else the forms in plain C++ stand in, which is how the tests run on every machine what is built
// on them.

typedef uint32_t UnsignedInts __attribute__((vector_size(FASTRNN_VECTOR_BYTES)));

// The instructions are written as text: the compilers' functions for them have other names and
// types in each version.

// sum + the products of a's four bytes, which are unsigned, and b's, which are signed. Wraps
// around.
FASTRNN_INLINE UnsignedInts plain_dot_of_bytes(UnsignedInts sum, Ints a, Ints b) {
  for (int i = 0; i < 4; ++i) {
    const Ints of_b = (Ints)((UnsignedInts)b << (24 - 8 * i)) >> 24;
    sum += ((UnsignedInts)a >> (8 * i) & 255) * (UnsignedInts)of_b;
  }
  return sum;
}

FASTRNN_INLINE UnsignedInts dot_of_bytes(UnsignedInts sum, Ints a, Ints b) {
#if FASTRNN_VECTOR_BYTES == 64 && defined(__AVX512VNNI__)
  asm("vpdpbusd\t%2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
  return sum;
#elif FASTRNN_VECTOR_BYTES == 32 && defined(__AVXVNNI__)
  asm("%{vex%} vpdpbusd\t%2, %1, %0" : "+x"(sum) : "x"(a), "x"(b));
  return sum;
#else
  return plain_dot_of_bytes(sum, a, b);
#endif
}

// Numbers as such a dot product takes them: zero where they are not normal
FASTRNN_INLINE Vec<float> flushed(Vec<float> numbers) {
  const UnsignedInts bits = (UnsignedInts)numbers;
  const UnsignedInts normal = (UnsignedInts)((bits & 0x7f800000) != 0);
  return (Vec<float>)(bits & (normal | 0x80000000));
}

// The second and the first of the pairs of bfloat16 in each lane, likewise
FASTRNN_INLINE Vec<float> upper_halves(Ints pairs) {
  return flushed((Vec<float>)(pairs & ~0xffff));
}
FASTRNN_INLINE Vec<float> lower_halves(Ints pairs) {
  return flushed((Vec<float>)((UnsignedInts)pairs << 16));
}

// The smallest normal number, less half of what lies between it and the one before
constexpr double kTiny = 0x1p-126 * (1 - 0x1p-25);

// sum + a * b of bfloat16, rounded once, to nearest, half to even, and to zero where the result is
// not a normal number. The product is exact, and the sum of doubles as exact as telling these
// results from others takes.
FASTRNN_INLINE float plain_add_product(float sum, float a, float b) {
  const double exact = static_cast<double>(a) * b + sum;
  const float rounded = __builtin_fmaf(a, b, sum);
  return __builtin_fabs(exact) < kTiny ? __builtin_copysignf(0, rounded) : rounded;
}

FASTRNN_INLINE Vec<float> plain_add_products(Vec<float> sum, Vec<float> a, Vec<float> b) {
  for (int i = 0; i < kLanes<float>; ++i) sum[i] = plain_add_product(sum[i], a[i], b[i]);
  return sum;
}

// sum + the products of the two numbers of bfloat16 in a and in b: those of the upper halves are
// added first. Numbers that are not normal count as zero, among the operands and the results.
FASTRNN_INLINE Vec<float> plain_dot_of_halves(Vec<float> sum, Ints a, Ints b) {
  sum = plain_add_products(flushed(sum), upper_halves(a), upper_halves(b));
  return plain_add_products(sum, lower_halves(a), lower_halves(b));
}

FASTRNN_INLINE Vec<float> dot_of_halves(Vec<float> sum, Ints a, Ints b) {
#if FASTRNN_VECTOR_BYTES == 64 && defined(__AVX512BF16__)
  asm("vdpbf16ps\t%2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
  return sum;
#else
  return plain_dot_of_halves(sum, a, b);
#endif
}
