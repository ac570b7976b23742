// Sums of products of bytes. simd.hpp says what each operation does.
//
// FASTNN_DOT is set where sources are compiled once more for CPUs with instructions for it: AVX-512 VNNI, AVX-VNNI,
// NEON's sdot. Elsewhere bytes are widened to 16 bits, those with even and those with odd numbers by themselves, so
// that they stay in their lane. Rejected: the 8-bit pairwise product of SSSE3, which saturates.
#pragma once
#include "../simd.hpp"

FASTNN_BEGIN

#if defined(FASTNN_ISA_v2) || defined(FASTNN_ISA_v3) || defined(FASTNN_ISA_v4)

constexpr bool offset_quads = false;
#if defined(FASTNN_DOT) && defined(FASTNN_ISA_v4) && defined(__AVX512VNNI__)
FASTNN_FN vbits32 quad(u32 u) { return vbits32(u); }
FASTNN_FN vbits32 load_weights(const s8* p) { return load_bits(p, vfloat()); }
FASTNN_FN vbits32 dot(vbits32 q, vbits32 w, vbits32 x) { return _mm512_dpbusd_epi32(x.v, q.v, w.v); }
#elif defined(FASTNN_DOT) && defined(FASTNN_ISA_v3) && defined(__AVXVNNI__)
FASTNN_FN vbits32 quad(u32 u) { return vbits32(u); }
FASTNN_FN vbits32 load_weights(const s8* p) { return load_bits(p, vfloat()); }
FASTNN_FN vbits32 dot(vbits32 q, vbits32 w, vbits32 x) { return _mm256_dpbusd_avx_epi32(x.v, q.v, w.v); }
#else
struct widened_bytes {
  vbits32 even, odd;
};
#if defined(FASTNN_ISA_v4)
#define FASTNN_WIDENED(name) _mm512_##name
#elif defined(FASTNN_ISA_v3)
#define FASTNN_WIDENED(name) _mm256_##name
#else
#define FASTNN_WIDENED(name) _mm_##name
#endif
FASTNN_FN widened_bytes quad(u32 u) { return {vbits32(u & 0xff00ff), vbits32(u >> 8 & 0xff00ff)}; }
FASTNN_FN widened_bytes load_weights(const s8* p) {
  const vbits32 w = load_bits(p, vfloat());
  return {FASTNN_WIDENED(srai_epi16)(FASTNN_WIDENED(slli_epi16)(w.v, 8), 8), FASTNN_WIDENED(srai_epi16)(w.v, 8)};
}
FASTNN_FN vbits32 dot(widened_bytes q, widened_bytes w, vbits32 x) {
  return x + FASTNN_WIDENED(madd_epi16)(q.even.v, w.even.v) + FASTNN_WIDENED(madd_epi16)(q.odd.v, w.odd.v);
}
#endif

#elif defined(FASTNN_ISA_neon)

constexpr bool offset_quads = true;
FASTNN_FN int8x16_t quad(u32 u) { return vreinterpretq_s8_u32(vdupq_n_u32(u ^ 0x80808080u)); }
FASTNN_FN int8x16_t load_weights(const s8* p) { return vld1q_s8(p); }
FASTNN_FN vbits32 dot(int8x16_t q, int8x16_t w, vbits32 x) {
  const int32x4_t sum = vreinterpretq_s32_u32(x.v);
#if defined(FASTNN_DOT) && defined(__ARM_FEATURE_DOTPROD)
  return vreinterpretq_u32_s32(vdotq_s32(sum, q, w));
#else
  const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(q), vget_low_s8(w))), high = vpaddlq_s16(vmull_high_s8(q, w));
  return vreinterpretq_u32_s32(vaddq_s32(sum, vpaddq_s32(low, high)));
#endif
}

#else

constexpr bool offset_quads = false;
FASTNN_FN u32 quad(u32 u) { return u; }
FASTNN_FN u32 load_weights(const s8* p) { return load_bits(p, 0.0f); }
FASTNN_FN u32 dot(u32 q, u32 w, u32 x) {
  for (int j = 0; j < 32; j += 8)
    x += static_cast<u32>(static_cast<int>(q >> j & 0xff) * static_cast<s8>(w >> j & 0xff));
  return x;
}

#endif

FASTNN_END
