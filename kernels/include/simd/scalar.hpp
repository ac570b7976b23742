// V = float and V = double: one lane. The CUDA thread, and the host's own check of the formulas.
#pragma once

FASTNN_BEGIN

template <>
struct traits<float> {
  using scalar = float;
  using mask = bool;
  using bits = u32;
  static constexpr int lanes = 1;
  static constexpr bool fused = true;
};
template <>
struct traits<double> {
  using scalar = double;
  using mask = bool;
  using bits = u64;
  static constexpr int lanes = 1;
  static constexpr bool fused = true;
};

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
FASTNN_FN float fmadd(float a, float b, float c) { return fmaf(a, b, c); }
FASTNN_FN double fmadd(double a, double b, double c) { return fma(a, b, c); }
#else
FASTNN_FN float fmadd(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
FASTNN_FN double fmadd(double a, double b, double c) { return __builtin_fma(a, b, c); }
#endif
FASTNN_FN float fnmadd(float a, float b, float c) { return fmadd(-a, b, c); }
FASTNN_FN double fnmadd(double a, double b, double c) { return fmadd(-a, b, c); }
FASTNN_FN float fmsub(float a, float b, float c) { return fmadd(a, b, -c); }
FASTNN_FN double fmsub(double a, double b, double c) { return fmadd(a, b, -c); }

FASTNN_FN float select(bool m, float a, float b) { return m ? a : b; }
FASTNN_FN double select(bool m, double a, double b) { return m ? a : b; }
FASTNN_FN float vmin(float a, float b) { return a < b ? a : b; }
FASTNN_FN double vmin(double a, double b) { return a < b ? a : b; }
FASTNN_FN float vmax(float a, float b) { return a > b ? a : b; }
FASTNN_FN double vmax(double a, double b) { return a > b ? a : b; }
#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
FASTNN_FN float vsqrt(float x) { return sqrtf(x); }
FASTNN_FN double vsqrt(double x) { return sqrt(x); }
#else
FASTNN_FN float vsqrt(float x) { return __builtin_sqrtf(x); }
FASTNN_FN double vsqrt(double x) { return __builtin_sqrt(x); }
#endif
FASTNN_FN float fold_sum(float x) { return x; }
FASTNN_FN double fold_sum(double x) { return x; }
FASTNN_FN float fold_max(float x) { return x; }
FASTNN_FN double fold_max(double x) { return x; }
FASTNN_FN bool any(bool m) { return m; }
FASTNN_FN bool all(bool m) { return m; }

FASTNN_FN u32 bits(float x) {
  u32 u;
  FASTNN_MEMCPY(&u, &x, sizeof u);
  return u;
}
FASTNN_FN u64 bits(double x) {
  u64 u;
  FASTNN_MEMCPY(&u, &x, sizeof u);
  return u;
}
template <class V>
FASTNN_FN V from_bits(bits_t<V> b);
template <>
FASTNN_FN float from_bits<float>(u32 u) {
  float x;
  FASTNN_MEMCPY(&x, &u, sizeof x);
  return x;
}
template <>
FASTNN_FN double from_bits<double>(u64 u) {
  double x;
  FASTNN_MEMCPY(&x, &u, sizeof x);
  return x;
}
template <int k>
FASTNN_FN u32 shl(u32 u) {
  return u << k;
}
template <int k>
FASTNN_FN u64 shl(u64 u) {
  return u << k;
}
template <int k>
FASTNN_FN u32 shr(u32 u) {
  return u >> k;
}
template <int k>
FASTNN_FN u64 shr(u64 u) {
  return u >> k;
}

template <class V>
FASTNN_FN V load(const scalar_t<V>* p);
template <>
FASTNN_FN float load<float>(const float* p) {
  return *p;
}
template <>
FASTNN_FN double load<double>(const double* p) {
  return *p;
}
FASTNN_FN void store(float* p, float x) { *p = x; }
FASTNN_FN void store(double* p, double x) { *p = x; }
template <class V>
FASTNN_FN V load_first(const scalar_t<V>* p, int n, V fill);

// Vectors of neighbouring elements, by the parity of their number or as they lie in memory.
template <class V>
struct even_odd {
  V even, odd;
};
template <class V>
struct joined {
  V first, second;
};
FASTNN_FN even_odd<float> deinterleave(float a, float b) { return {a, b}; }
FASTNN_FN even_odd<double> deinterleave(double a, double b) { return {a, b}; }
FASTNN_FN joined<float> interleave(float even, float odd) { return {even, odd}; }
FASTNN_FN joined<double> interleave(double even, double odd) { return {even, odd}; }

FASTNN_FN void store64(void* p, u64 u, long long base) {
  const u64 sum = u + static_cast<u64>(base);
  FASTNN_MEMCPY(p, &sum, sizeof sum);
}
FASTNN_FN void store64(void* p, u32 u, long long base) { store64(p, static_cast<u64>(u), base); }
template <class V>
FASTNN_FN mask_t<V> at_least16(const u16* p, u32 bound);
template <>
FASTNN_FN bool at_least16<float>(const u16* p, u32 bound) {
  return *p >= bound;
}
template <>
FASTNN_FN bool at_least16<double>(const u16* p, u32 bound) {
  return *p >= bound;
}

template <>
struct word_traits<u32> {
  static constexpr int lanes = 1;
};
struct word_product {
  u32 high, low;
};
template <>
FASTNN_FN u32 rising<u32>(u32 first) {
  return first;
}
FASTNN_FN word_product product(u32 a, u32 b) {
#if defined(__CUDA_ARCH__)  // whose compiler would carry words through all rounds as 64-bit numbers
  return {__umulhi(a, b), a * b};
#else
  const u64 p = static_cast<u64>(a) * b;
  return {static_cast<u32>(p >> 32), static_cast<u32>(p)};
#endif
}
FASTNN_FN u32 high(word_product p) { return p.high; }
FASTNN_FN u32 low(word_product p) { return p.low; }
FASTNN_FN u32 xor3(u32 a, u32 b, u32 c) { return a ^ b ^ c; }
FASTNN_FN void store_blocks(void* p, u32 a, u32 b, u32 c, u32 d) {
  const u32 words[] = {a, b, c, d};
  FASTNN_MEMCPY(p, words, sizeof words);
}

FASTNN_END
