// 32-bit integers, and sums of products of bytes, for quantized networks. Exact everywhere.
//
//   vint                         as many lanes as vfloat
//   load_ints(p), store(p, x)    lanes<vfloat> integers, any alignment
//   a + b, a - b, vint(c)        wrapping
//   to_float(x), to_int(x)       rounded to nearest even; to_int for |x| <= 2^31 - 128
//   store_bytes(p, x, n)         the first n lanes, numbers from 0 to 255, as bytes
//   dot(q, w, x)                 lane i: x[i] + sum over j < 4 of q[j] w[4 i + j], of
//     quad(u)                    q: four bytes 0 ... 255, the lowest first, the same for every lane
//     load_weights(p)            w: 4 lanes<vfloat> bytes -128 ... 127
//   offset_quads                 if true, q counts from -128: dot is too small by 128 sum(w), which is
//                                - dot(quad(0), w, 0)
//
// FASTNN_DOT says that the CPU has instructions for it (AVX-512 VNNI, AVX-VNNI, NEON's sdot), which the compiler has
// been told of. Elsewhere bytes are widened to 16 bits, those with even and with odd numbers by themselves, so that
// they stay in their lane. Rejected: pmaddubsw, which saturates.
#pragma once
#include "../simd.hpp"

FASTNN_BEGIN

#if defined(FASTNN_ISA_v2) || defined(FASTNN_ISA_v3) || defined(FASTNN_ISA_v4)

#define FASTNN_X86_INTEGERS(REG, P, SI)                                                                           \
  struct vint {                                                                                                   \
    REG v;                                                                                                        \
    vint() = default;                                                                                             \
    FASTNN_FN vint(REG r) : v(r) {}                                                                               \
    FASTNN_FN explicit vint(int c) : v(P##_set1_epi32(c)) {}                                                      \
  };                                                                                                              \
  FASTNN_FN vint operator+(vint a, vint b) { return P##_add_epi32(a.v, b.v); }                                    \
  FASTNN_FN vint operator-(vint a, vint b) { return P##_sub_epi32(a.v, b.v); }                                    \
  FASTNN_FN vint load_ints(const void* p) { return P##_loadu_##SI(static_cast<const REG*>(p)); }                  \
  FASTNN_FN void store(int* p, vint x) { P##_storeu_##SI(reinterpret_cast<REG*>(p), x.v); }                       \
  FASTNN_FN vfloat to_float(vint x) { return P##_cvtepi32_ps(x.v); }                                              \
  FASTNN_FN vint to_int(vfloat x) { return P##_cvtps_epi32(x.v); }                                                \
  /* By even and odd bytes. */                                                                                    \
  struct widened_bytes {                                                                                          \
    REG even, odd;                                                                                                \
  };                                                                                                              \
  FASTNN_FN widened_bytes widened_quad(u32 u) {                                                                   \
    return {P##_set1_epi32(static_cast<int>(u & 0xff00ff)), P##_set1_epi32(static_cast<int>(u >> 8 & 0xff00ff))}; \
  }                                                                                                               \
  FASTNN_FN widened_bytes widened_weights(REG w) {                                                                \
    return {P##_srai_epi16(P##_slli_epi16(w, 8), 8), P##_srai_epi16(w, 8)};                                       \
  }                                                                                                               \
  FASTNN_FN vint dot(widened_bytes q, widened_bytes w, vint x) {                                                  \
    return P##_add_epi32(P##_add_epi32(x.v, P##_madd_epi16(q.even, w.even)), P##_madd_epi16(q.odd, w.odd));       \
  }

#if defined(FASTNN_ISA_v4)
FASTNN_X86_INTEGERS(__m512i, _mm512, si512)
FASTNN_FN void store_bytes(unsigned char* p, vint x, int n) {
  _mm512_mask_cvtepi32_storeu_epi8(p, static_cast<__mmask16>((1u << n) - 1), x.v);
}
#else
#if defined(FASTNN_ISA_v3)
FASTNN_X86_INTEGERS(__m256i, _mm256, si256)
FASTNN_FN __m128i words(vint x) {
  return _mm_packus_epi32(_mm256_castsi256_si128(x.v), _mm256_extracti128_si256(x.v, 1));
}
#else
FASTNN_X86_INTEGERS(__m128i, _mm, si128)
FASTNN_FN __m128i words(vint x) { return _mm_packus_epi32(x.v, x.v); }
#endif
FASTNN_FN void store_bytes(unsigned char* p, vint x, int n) {
  const __m128i w = words(x);
  const long long bytes = _mm_cvtsi128_si64(_mm_packus_epi16(w, w));
  FASTNN_MEMCPY(p, &bytes, n);
}
#endif

constexpr bool offset_quads = false;
#if defined(FASTNN_DOT) && (defined(__AVX512VNNI__) || defined(__AVXVNNI__)) && !defined(FASTNN_ISA_v2)
FASTNN_FN vint quad(u32 u) { return vint(static_cast<int>(u)); }
FASTNN_FN vint load_weights(const signed char* p) { return load_ints(p); }
FASTNN_FN vint dot(vint q, vint w, vint x) {
#if defined(FASTNN_ISA_v4)
  return _mm512_dpbusd_epi32(x.v, q.v, w.v);
#else
  return _mm256_dpbusd_avx_epi32(x.v, q.v, w.v);
#endif
}
#else
FASTNN_FN widened_bytes quad(u32 u) { return widened_quad(u); }
FASTNN_FN widened_bytes load_weights(const signed char* p) { return widened_weights(load_ints(p).v); }
#endif

#elif defined(FASTNN_ISA_neon)

struct vint {
  int32x4_t v;
  vint() = default;
  FASTNN_FN vint(int32x4_t r) : v(r) {}
  FASTNN_FN explicit vint(int c) : v(vdupq_n_s32(c)) {}
};
FASTNN_FN vint operator+(vint a, vint b) { return vaddq_s32(a.v, b.v); }
FASTNN_FN vint operator-(vint a, vint b) { return vsubq_s32(a.v, b.v); }
FASTNN_FN vint load_ints(const void* p) { return vreinterpretq_s32_u8(vld1q_u8(static_cast<const uint8_t*>(p))); }
FASTNN_FN void store(int* p, vint x) { vst1q_s32(p, x.v); }
FASTNN_FN vfloat to_float(vint x) { return vcvtq_f32_s32(x.v); }
FASTNN_FN vint to_int(vfloat x) { return vcvtnq_s32_f32(x.v); }
FASTNN_FN void store_bytes(unsigned char* p, vint x, int n) {
  const uint8x8_t bytes = vmovn_u16(vcombine_u16(vmovn_u32(vreinterpretq_u32_s32(x.v)), vdup_n_u16(0)));
  const uint32_t four = vget_lane_u32(vreinterpret_u32_u8(bytes), 0);
  FASTNN_MEMCPY(p, &four, n);
}

constexpr bool offset_quads = true;
FASTNN_FN int8x16_t quad(u32 u) { return vreinterpretq_s8_u32(vdupq_n_u32(u ^ 0x80808080u)); }
FASTNN_FN int8x16_t load_weights(const signed char* p) { return vld1q_s8(p); }
FASTNN_FN vint dot(int8x16_t q, int8x16_t w, vint x) {
#if defined(FASTNN_DOT) && defined(__ARM_FEATURE_DOTPROD)
  return vdotq_s32(x.v, q, w);
#else
  const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(q), vget_low_s8(w))), high = vpaddlq_s16(vmull_high_s8(q, w));
  return vaddq_s32(x.v, vpaddq_s32(low, high));
#endif
}

#else

using vint = int;
FASTNN_FN int load_ints(const void* p) {
  int x;
  FASTNN_MEMCPY(&x, p, sizeof x);
  return x;
}
FASTNN_FN void store(int* p, int x) { *p = x; }
FASTNN_FN float to_float(int x) { return static_cast<float>(x); }
FASTNN_FN int to_int(float x) { return static_cast<int>(__builtin_rintf(x)); }
FASTNN_FN void store_bytes(unsigned char* p, int x, int n) {
  if (n > 0) *p = static_cast<unsigned char>(x);
}

constexpr bool offset_quads = false;
FASTNN_FN u32 quad(u32 u) { return u; }
FASTNN_FN u32 load_weights(const signed char* p) { return static_cast<u32>(load_ints(p)); }
FASTNN_FN int dot(u32 q, u32 w, int x) {
  for (int j = 0; j < 4; ++j) x += static_cast<int>(q >> 8 * j & 0xff) * static_cast<signed char>(w >> 8 * j & 0xff);
  return x;
}

#endif

FASTNN_END
