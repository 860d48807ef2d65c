// Products of small integers, which x86 has an instruction for and the vector extensions no word.

typedef VecOf<float>::Int Ints;                                             // of 32 bits
typedef int16_t Shorts __attribute__((vector_size(FASTRNN_VECTOR_BYTES)));  // twice as many

// a[2i] * b[2i] + a[2i + 1] * b[2i + 1]
FASTRNN_INLINE Ints plain_sum_of_pairs(Shorts a, Shorts b) {
  const Ints of_a = (Ints)a, of_b = (Ints)b;
  return ((of_a << 16) >> 16) * ((of_b << 16) >> 16) + (of_a >> 16) * (of_b >> 16);
}

// The same, by the processor's instruction where there is one
FASTRNN_INLINE Ints sum_of_pairs(Shorts a, Shorts b) {
#if defined(__x86_64__) && FASTRNN_VECTOR_BYTES == 16
  return (Ints)__builtin_ia32_pmaddwd128(a, b);
#elif defined(__x86_64__) && FASTRNN_VECTOR_BYTES == 32
  return (Ints)__builtin_ia32_pmaddwd256(a, b);
#elif defined(__x86_64__) && defined(__clang__)
  return (Ints)__builtin_ia32_pmaddwd512(a, b);
#elif defined(__x86_64__)
  return (Ints)__builtin_ia32_pmaddwd512_mask(a, b, Ints{}, -1);
#else
  return plain_sum_of_pairs(a, b);
#endif
}
