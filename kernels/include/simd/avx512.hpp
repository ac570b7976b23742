// x86-64-v4: AVX-512 F, BW, CD, DQ, VL. Masks live in mask registers.
#pragma once
#include "x86.hpp"

FASTNN_BEGIN

struct mask16 {
  __mmask16 k;
};
struct mask8 {
  __mmask8 k;
};

#define FASTNN_AVX512_MASK(M, K, V, T)                                                        \
  FASTNN_FN M operator&(M a, M b) { return {static_cast<K>(a.k & b.k)}; }                     \
  FASTNN_FN M operator|(M a, M b) { return {static_cast<K>(a.k | b.k)}; }                     \
  FASTNN_FN M operator!(M a) { return {static_cast<K>(~a.k)}; }                               \
  FASTNN_FN bool any(M m) { return m.k != 0; }                                                \
  FASTNN_FN bool all(M m) { return static_cast<K>(~m.k) == 0; }                               \
  FASTNN_FN M operator<(V a, V b) { return {_mm512_cmp_##T##_mask(a.v, b.v, _CMP_LT_OQ)}; }   \
  FASTNN_FN M operator<=(V a, V b) { return {_mm512_cmp_##T##_mask(a.v, b.v, _CMP_LE_OQ)}; }  \
  FASTNN_FN M operator>(V a, V b) { return {_mm512_cmp_##T##_mask(a.v, b.v, _CMP_GT_OQ)}; }   \
  FASTNN_FN M operator>=(V a, V b) { return {_mm512_cmp_##T##_mask(a.v, b.v, _CMP_GE_OQ)}; }  \
  FASTNN_FN M operator==(V a, V b) { return {_mm512_cmp_##T##_mask(a.v, b.v, _CMP_EQ_OQ)}; }  \
  FASTNN_FN M operator!=(V a, V b) { return {_mm512_cmp_##T##_mask(a.v, b.v, _CMP_NEQ_UQ)}; } \
  FASTNN_FN V select(M m, V a, V b) { return _mm512_mask_blend_##T(m.k, b.v, a.v); }          \
  FASTNN_FN V scale(V x, V n) { return _mm512_scalef_##T(x.v, n.v); }                         \
  template <>                                                                                 \
  FASTNN_FN V load_first<V>(const scalar_t<V>* p, int n, V fill) {                            \
    return _mm512_mask_loadu_##T(fill.v, static_cast<K>((1u << n) - 1), p);                   \
  }                                                                                           \
  FASTNN_FN void store_first(scalar_t<V>* p, V x, int n) {                                    \
    _mm512_mask_storeu_##T(p, static_cast<K>((1u << n) - 1), x.v);                            \
  }

FASTNN_X86_BITS(vbits32, u32, __m512i, _mm512, epi32, si512, _mm512_set1_epi32)
FASTNN_X86_BITS(vbits64, u64, __m512i, _mm512, epi64, si512, _mm512_set1_epi64)
FASTNN_X86_VECTOR(vfloat, float, __m512, vbits32, mask16, 16, true, _mm512, ps, si512)
FASTNN_X86_VECTOR(vdouble, double, __m512d, vbits64, mask8, 8, true, _mm512, pd, si512)
FASTNN_X86_FMA(vfloat, _mm512, ps)
FASTNN_X86_FMA(vdouble, _mm512, pd)
FASTNN_AVX512_MASK(mask16, __mmask16, vfloat, ps)
FASTNN_AVX512_MASK(mask8, __mmask8, vdouble, pd)

FASTNN_FN vbits32 widen16(const u16* p) {
  return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
FASTNN_FN void narrow16(u16* p, vbits32 b) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(b.v));
}
FASTNN_FN vfloat load_binary16(const u16* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
FASTNN_FN void store_binary16(u16* p, vfloat x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT));
}

FASTNN_FN float fold_sum(vfloat x) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(x.v), _mm512_extractf32x8_ps(x.v, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
FASTNN_FN double fold_sum(vdouble x) {
  const __m256d four = _mm256_add_pd(_mm512_castpd512_pd256(x.v), _mm512_extractf64x4_pd(x.v, 1));
  const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
  return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

FASTNN_FN float fold_max(vfloat x) {
  const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(x.v), _mm512_extractf32x8_ps(x.v, 1));
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
FASTNN_FN double fold_max(vdouble x) {
  const __m256d four = _mm256_max_pd(_mm512_castpd512_pd256(x.v), _mm512_extractf64x4_pd(x.v, 1));
  const __m128d two = _mm_max_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
  return _mm_cvtsd_f64(_mm_max_sd(two, _mm_unpackhi_pd(two, two)));
}

// One vector of floats as doubles, and back with one rounding.
struct doubles {
  vdouble part[2];
};
FASTNN_FN doubles widen(vfloat x) {
  return {{_mm512_cvtps_pd(_mm512_castps512_ps256(x.v)), _mm512_cvtps_pd(_mm512_extractf32x8_ps(x.v, 1))}};
}
FASTNN_FN vfloat narrow(doubles x) {
  return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(x.part[0].v)), _mm512_cvtpd_ps(x.part[1].v), 1);
}

FASTNN_FN even_odd<vfloat> deinterleave(vfloat a, vfloat b) {
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i odd = _mm512_or_si512(even, _mm512_set1_epi32(1));
  return {_mm512_permutex2var_ps(a.v, even, b.v), _mm512_permutex2var_ps(a.v, odd, b.v)};
}
FASTNN_FN even_odd<vdouble> deinterleave(vdouble a, vdouble b) {
  const __m512i even = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
  const __m512i odd = _mm512_or_si512(even, _mm512_set1_epi64(1));
  return {_mm512_permutex2var_pd(a.v, even, b.v), _mm512_permutex2var_pd(a.v, odd, b.v)};
}
FASTNN_FN joined<vfloat> interleave(vfloat even, vfloat odd) {
  const __m512i first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
  return {_mm512_permutex2var_ps(even.v, first, odd.v), _mm512_permutex2var_ps(even.v, second, odd.v)};
}
FASTNN_FN joined<vdouble> interleave(vdouble even, vdouble odd) {
  const __m512i first = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
  const __m512i second = _mm512_add_epi64(first, _mm512_set1_epi64(4));
  return {_mm512_permutex2var_pd(even.v, first, odd.v), _mm512_permutex2var_pd(even.v, second, odd.v)};
}
FASTNN_FN void store64(void* p, vbits32 u, long long base) {
  const __m512i b = _mm512_set1_epi64(base);
  const __m256i low = _mm512_castsi512_si256(u.v), high = _mm512_extracti64x4_epi64(u.v, 1);
  _mm512_storeu_si512(p, _mm512_add_epi64(_mm512_cvtepu32_epi64(low), b));
  _mm512_storeu_si512(static_cast<__m512i*>(p) + 1, _mm512_add_epi64(_mm512_cvtepu32_epi64(high), b));
}
FASTNN_FN void store64(void* p, vbits64 u, long long base) {
  _mm512_storeu_si512(p, _mm512_add_epi64(u.v, _mm512_set1_epi64(base)));
}

template <>
FASTNN_FN mask16 at_least16<vfloat>(const u16* p, u32 bound) {
  const __m256i wanted = _mm256_set1_epi16(static_cast<short>(bound));
  return {_mm256_cmpge_epu16_mask(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)), wanted)};
}
template <>
FASTNN_FN mask8 at_least16<vdouble>(const u16* p, u32 bound) {
  const __m128i wanted = _mm_set1_epi16(static_cast<short>(bound));
  return {_mm_cmpge_epu16_mask(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)), wanted)};
}

FASTNN_FN vfloat fetched(vfloat x) {
  asm("" : "+v"(x.v));
  return x;
}
FASTNN_FN vdouble fetched(vdouble x) {
  asm("" : "+v"(x.v));
  return x;
}

FASTNN_FN __m512i merge_words(__m512i even, __m512i odd) {
  return _mm512_mask_shuffle_epi32(even, 0xaaaa, odd, _MM_PERM_CCAA);
}
FASTNN_FN __m512i odd_words(__m512i p) { return _mm512_shuffle_epi32(p, _MM_PERM_DDBB); }
FASTNN_X86_WORDS(__m512i, 8, _mm512, si512)
FASTNN_FN vwords xor3(vwords a, vwords b, vwords c) { return _mm512_ternarylogic_epi64(a.v, b.v, c.v, 0x96); }
template <>
FASTNN_FN vwords rising<vwords>(u32 first) {
  return _mm512_add_epi64(vwords(first).v, _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7));
}

FASTNN_END
