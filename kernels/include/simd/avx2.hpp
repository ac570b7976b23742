// x86-64-v3: AVX2, FMA, F16C.
#pragma once
#include "x86.hpp"

FASTNN_BEGIN

struct maskf {
  __m256 v;
  FASTNN_FN maskf(__m256 r) : v(r) {}
};
struct maskd {
  __m256d v;
  FASTNN_FN maskd(__m256d r) : v(r) {}
};

#define FASTNN_AVX2_COMPARE(name, predicate, a, b, T) _mm256_cmp_##T(a, b, _CMP_##predicate)

FASTNN_X86_BITS(vbits32, u32, __m256i, _mm256, epi32, si256, _mm256_set1_epi32)
FASTNN_X86_BITS(vbits64, u64, __m256i, _mm256, epi64, si256, _mm256_set1_epi64x)
FASTNN_X86_VECTOR(vfloat, float, __m256, vbits32, maskf, 8, true, _mm256, ps, si256)
FASTNN_X86_VECTOR(vdouble, double, __m256d, vbits64, maskd, 4, true, _mm256, pd, si256)
FASTNN_X86_FMA(vfloat, _mm256, ps)
FASTNN_X86_FMA(vdouble, _mm256, pd)
FASTNN_X86_VECTOR_MASK(maskf, vfloat, _mm256, ps, FASTNN_AVX2_COMPARE)
FASTNN_X86_VECTOR_MASK(maskd, vdouble, _mm256, pd, FASTNN_AVX2_COMPARE)
FASTNN_FN maskf operator!(maskf m) { return _mm256_xor_ps(m.v, _mm256_castsi256_ps(_mm256_set1_epi32(-1))); }
FASTNN_FN maskd operator!(maskd m) { return _mm256_xor_pd(m.v, _mm256_castsi256_pd(_mm256_set1_epi32(-1))); }

FASTNN_FN vbits32 widen16(const u16* p) {
  return _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
FASTNN_FN void narrow16(u16* p, vbits32 b) {
  const __m128i low = _mm256_castsi256_si128(b.v), high = _mm256_extracti128_si256(b.v, 1);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_packus_epi32(low, high));
}
FASTNN_FN vfloat load_binary16(const u16* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
FASTNN_FN void store_binary16(u16* p, vfloat x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT));
}

FASTNN_FN float fold_sum(vfloat x) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(x.v), _mm256_extractf128_ps(x.v, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
FASTNN_FN double fold_sum(vdouble x) {
  const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(x.v), _mm256_extractf128_pd(x.v, 1));
  return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

FASTNN_FN float fold_max(vfloat x) {
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(x.v), _mm256_extractf128_ps(x.v, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
FASTNN_FN double fold_max(vdouble x) {
  const __m128d two = _mm_max_pd(_mm256_castpd256_pd128(x.v), _mm256_extractf128_pd(x.v, 1));
  return _mm_cvtsd_f64(_mm_max_sd(two, _mm_unpackhi_pd(two, two)));
}

// One vector of floats as doubles, and back with one rounding.
struct doubles {
  vdouble part[2];
};
FASTNN_FN doubles widen(vfloat x) {
  return {{_mm256_cvtps_pd(_mm256_castps256_ps128(x.v)), _mm256_cvtps_pd(_mm256_extractf128_ps(x.v, 1))}};
}
FASTNN_FN vfloat narrow(doubles x) {
  return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm256_cvtpd_ps(x.part[0].v)), _mm256_cvtpd_ps(x.part[1].v), 1);
}

// Shuffles stay within halves of a register: a permutation of the quarters follows.
FASTNN_FN even_odd<vfloat> deinterleave(vfloat a, vfloat b) {
  const __m256d even = _mm256_castps_pd(_mm256_shuffle_ps(a.v, b.v, 0x88));
  const __m256d odd = _mm256_castps_pd(_mm256_shuffle_ps(a.v, b.v, 0xdd));
  return {_mm256_castpd_ps(_mm256_permute4x64_pd(even, 0xd8)), _mm256_castpd_ps(_mm256_permute4x64_pd(odd, 0xd8))};
}
FASTNN_FN even_odd<vdouble> deinterleave(vdouble a, vdouble b) {
  return {_mm256_permute4x64_pd(_mm256_unpacklo_pd(a.v, b.v), 0xd8),
          _mm256_permute4x64_pd(_mm256_unpackhi_pd(a.v, b.v), 0xd8)};
}
FASTNN_FN joined<vfloat> interleave(vfloat even, vfloat odd) {
  const __m256 low = _mm256_unpacklo_ps(even.v, odd.v), high = _mm256_unpackhi_ps(even.v, odd.v);
  return {_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31)};
}
FASTNN_FN joined<vdouble> interleave(vdouble even, vdouble odd) {
  const __m256d low = _mm256_unpacklo_pd(even.v, odd.v), high = _mm256_unpackhi_pd(even.v, odd.v);
  return {_mm256_permute2f128_pd(low, high, 0x20), _mm256_permute2f128_pd(low, high, 0x31)};
}
FASTNN_FN void store64(void* p, vbits32 u, long long base) {
  const __m256i b = _mm256_set1_epi64x(base);
  const __m128i low = _mm256_castsi256_si128(u.v), high = _mm256_extracti128_si256(u.v, 1);
  _mm256_storeu_si256(static_cast<__m256i*>(p), _mm256_add_epi64(_mm256_cvtepu32_epi64(low), b));
  _mm256_storeu_si256(static_cast<__m256i*>(p) + 1, _mm256_add_epi64(_mm256_cvtepu32_epi64(high), b));
}
FASTNN_FN void store64(void* p, vbits64 u, long long base) {
  _mm256_storeu_si256(static_cast<__m256i*>(p), _mm256_add_epi64(u.v, _mm256_set1_epi64x(base)));
}

template <>
FASTNN_FN maskf at_least16<vfloat>(const u16* p, u32 bound) {
  return _mm256_castsi256_ps(_mm256_cmpgt_epi32(widen16(p).v, _mm256_set1_epi32(static_cast<int>(bound) - 1)));
}
template <>
FASTNN_FN maskd at_least16<vdouble>(const u16* p, u32 bound) {
  const __m256i wide = _mm256_cvtepu16_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  return _mm256_castsi256_pd(_mm256_cmpgt_epi64(wide, _mm256_set1_epi64x(static_cast<long long>(bound) - 1)));
}

FASTNN_FN __m256i merge_words(__m256i even, __m256i odd) {
  return _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
}
FASTNN_FN __m256i odd_words(__m256i p) { return _mm256_shuffle_epi32(p, 0xf5); }
FASTNN_X86_WORDS(__m256i, 4, _mm256, si256)
FASTNN_FN vwords xor3(vwords a, vwords b, vwords c) { return a ^ (b ^ c); }
template <>
FASTNN_FN vwords rising<vwords>(u32 first) {
  return _mm256_add_epi64(vwords(first).v, _mm256_setr_epi64x(0, 2, 1, 3));
}

FASTNN_END
