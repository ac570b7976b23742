// x86-64-v2: SSE4.2. No FMA unit: fmadd rounds twice, and product_error cuts its factors in halves.
#pragma once
#include "x86.hpp"

FASTNN_BEGIN

struct maskf {
  __m128 v;
  FASTNN_FN maskf(__m128 r) : v(r) {}
};
struct maskd {
  __m128d v;
  FASTNN_FN maskd(__m128d r) : v(r) {}
};

#define FASTNN_SSE_COMPARE(name, predicate, a, b, T) _mm_cmp##name##_##T(a, b)

FASTNN_X86_BITS(vbits32, u32, __m128i, _mm, epi32, si128, _mm_set1_epi32)
FASTNN_X86_BITS(vbits64, u64, __m128i, _mm, epi64, si128, _mm_set1_epi64x)
FASTNN_X86_VECTOR(vfloat, float, __m128, vbits32, maskf, 4, false, _mm, ps, si128)
FASTNN_X86_VECTOR(vdouble, double, __m128d, vbits64, maskd, 2, false, _mm, pd, si128)
FASTNN_X86_VECTOR_MASK(maskf, vfloat, _mm, ps, FASTNN_SSE_COMPARE)
FASTNN_X86_VECTOR_MASK(maskd, vdouble, _mm, pd, FASTNN_SSE_COMPARE)
FASTNN_FN maskf operator!(maskf m) { return _mm_xor_ps(m.v, _mm_castsi128_ps(_mm_set1_epi32(-1))); }
FASTNN_FN maskd operator!(maskd m) { return _mm_xor_pd(m.v, _mm_castsi128_pd(_mm_set1_epi32(-1))); }
FASTNN_FN vfloat fmadd(vfloat a, vfloat b, vfloat c) { return a * b + c; }
FASTNN_FN vdouble fmadd(vdouble a, vdouble b, vdouble c) { return a * b + c; }
FASTNN_FN vfloat fmsub(vfloat a, vfloat b, vfloat c) { return a * b - c; }
FASTNN_FN vdouble fmsub(vdouble a, vdouble b, vdouble c) { return a * b - c; }
FASTNN_FN vfloat fnmadd(vfloat a, vfloat b, vfloat c) { return c - a * b; }
FASTNN_FN vdouble fnmadd(vdouble a, vdouble b, vdouble c) { return c - a * b; }

FASTNN_FN vbits32 widen16(const u16* p) {
  return _mm_cvtepu16_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
FASTNN_FN void narrow16(u16* p, vbits32 b) {
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi32(b.v, b.v));
}
// One or two dozen instructions here: called, not inlined into every loop.
static __attribute__((noinline, unused)) vfloat load_binary16(const u16* p) {
  return binary16_to_float<vfloat>(widen16(p));
}
static __attribute__((noinline, unused)) void store_binary16(u16* p, vfloat x) { narrow16(p, float_to_binary16(x)); }
static __attribute__((noinline, unused)) void store_bfloat16(u16* p, vfloat x) { narrow16(p, float_to_bfloat16(x)); }

FASTNN_FN float fold_sum(vfloat x) {
  const __m128 two = _mm_add_ps(x.v, _mm_movehl_ps(x.v, x.v));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
FASTNN_FN double fold_sum(vdouble x) { return _mm_cvtsd_f64(_mm_add_sd(x.v, _mm_unpackhi_pd(x.v, x.v))); }

FASTNN_FN float fold_max(vfloat x) {
  const __m128 two = _mm_max_ps(x.v, _mm_movehl_ps(x.v, x.v));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
FASTNN_FN double fold_max(vdouble x) { return _mm_cvtsd_f64(_mm_max_sd(x.v, _mm_unpackhi_pd(x.v, x.v))); }

// One vector of floats as doubles, and back with one rounding.
struct doubles {
  vdouble part[2];
};
FASTNN_FN doubles widen(vfloat x) { return {{_mm_cvtps_pd(x.v), _mm_cvtps_pd(_mm_movehl_ps(x.v, x.v))}}; }
FASTNN_FN vfloat narrow(doubles x) { return _mm_movelh_ps(_mm_cvtpd_ps(x.part[0].v), _mm_cvtpd_ps(x.part[1].v)); }

FASTNN_FN even_odd<vfloat> deinterleave(vfloat a, vfloat b) {
  return {_mm_shuffle_ps(a.v, b.v, 0x88), _mm_shuffle_ps(a.v, b.v, 0xdd)};
}
FASTNN_FN even_odd<vdouble> deinterleave(vdouble a, vdouble b) {
  return {_mm_unpacklo_pd(a.v, b.v), _mm_unpackhi_pd(a.v, b.v)};
}
FASTNN_FN joined<vfloat> interleave(vfloat even, vfloat odd) {
  return {_mm_unpacklo_ps(even.v, odd.v), _mm_unpackhi_ps(even.v, odd.v)};
}
FASTNN_FN joined<vdouble> interleave(vdouble even, vdouble odd) {
  return {_mm_unpacklo_pd(even.v, odd.v), _mm_unpackhi_pd(even.v, odd.v)};
}
FASTNN_FN void store64(void* p, vbits32 u, long long base) {
  const __m128i b = _mm_set1_epi64x(base);
  _mm_storeu_si128(static_cast<__m128i*>(p), _mm_add_epi64(_mm_cvtepu32_epi64(u.v), b));
  _mm_storeu_si128(static_cast<__m128i*>(p) + 1, _mm_add_epi64(_mm_cvtepu32_epi64(_mm_srli_si128(u.v, 8)), b));
}
FASTNN_FN void store64(void* p, vbits64 u, long long base) {
  _mm_storeu_si128(static_cast<__m128i*>(p), _mm_add_epi64(u.v, _mm_set1_epi64x(base)));
}

template <>
FASTNN_FN maskf at_least16<vfloat>(const u16* p, u32 bound) {
  return _mm_castsi128_ps(_mm_cmpgt_epi32(widen16(p).v, _mm_set1_epi32(static_cast<int>(bound) - 1)));
}
template <>
FASTNN_FN maskd at_least16<vdouble>(const u16* p, u32 bound) {
  const __m128i wide = _mm_cvtepu16_epi64(_mm_loadu_si32(p));
  return _mm_castsi128_pd(_mm_cmpgt_epi64(wide, _mm_set1_epi64x(static_cast<long long>(bound) - 1)));
}

FASTNN_FN __m128i merge_words(__m128i even, __m128i odd) {
  return _mm_blend_epi16(even, _mm_slli_epi64(odd, 32), 0xcc);
}
FASTNN_FN __m128i odd_words(__m128i p) { return _mm_shuffle_epi32(p, 0xf5); }
FASTNN_X86_WORDS(__m128i, 2, _mm, si128)
FASTNN_FN vwords xor3(vwords a, vwords b, vwords c) { return a ^ (b ^ c); }
template <>
FASTNN_FN vwords rising<vwords>(u32 first) {
  return _mm_add_epi64(vwords(first).v, _mm_set_epi64x(1, 0));
}

FASTNN_END
