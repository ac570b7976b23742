// Bytes beside V: 8-bit numbers as int32 lanes, one for each lane of V (float or vfloat), and back; and sixteen bytes
// as they are. simd.hpp says what each does.
#pragma once

FASTNN_BEGIN

using u8 = unsigned char;
using s8 = signed char;

template <class V>
FASTNN_FN bits_t<V> widen8(const u8* p);
template <class V>
FASTNN_FN bits_t<V> widen_signed8(const s8* p);
template <class V>
FASTNN_FN V to_float(bits_t<V> b);

template <>
FASTNN_FN u32 widen8<float>(const u8* p) {
  return *p;
}
template <>
FASTNN_FN u32 widen_signed8<float>(const s8* p) {
  return static_cast<u32>(static_cast<int>(*p));
}
FASTNN_FN void narrow8(u8* p, u32 b) { *p = static_cast<u8>(b); }
template <>
FASTNN_FN float to_float<float>(u32 b) {
  return static_cast<float>(static_cast<int>(b));
}
FASTNN_FN u32 multiply16(u32 a, u32 b) { return a * static_cast<u32>(static_cast<int>(static_cast<short>(b))); }
FASTNN_FN u32 load_bits(const void* p, float) {
  u32 u;
  FASTNN_MEMCPY(&u, p, sizeof u);
  return u;
}

// The same for vfloat: its register REG, the loads and conversions of P.
#define FASTNN_X86_BYTES(P, REG, SI, LOAD)                                                \
  template <>                                                                             \
  FASTNN_FN vbits32 widen8<vfloat>(const u8* p) {                                         \
    return P##_cvtepu8_epi32(LOAD(p));                                                    \
  }                                                                                       \
  template <>                                                                             \
  FASTNN_FN vbits32 widen_signed8<vfloat>(const s8* p) {                                  \
    return P##_cvtepi8_epi32(LOAD(p));                                                    \
  }                                                                                       \
  template <>                                                                             \
  FASTNN_FN vfloat to_float<vfloat>(vbits32 b) {                                          \
    return P##_cvtepi32_ps(b.v);                                                          \
  }                                                                                       \
  /* pairs of 16-bit numbers; the upper one of a is 0 */                                  \
  FASTNN_FN vbits32 multiply16(vbits32 a, vbits32 b) { return P##_madd_epi16(a.v, b.v); } \
  FASTNN_FN vbits32 load_bits(const void* p, vfloat) { return P##_loadu_##SI(static_cast<const REG*>(p)); }

#if defined(FASTNN_ISA_v4)
FASTNN_FN __m128i sixteen_bytes(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
FASTNN_X86_BYTES(_mm512, __m512i, si512, sixteen_bytes)
FASTNN_FN void narrow8(u8* p, vbits32 b) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(b.v)); }
#elif defined(FASTNN_ISA_v3)
FASTNN_FN __m128i eight_bytes(const void* p) { return _mm_loadl_epi64(static_cast<const __m128i*>(p)); }
FASTNN_X86_BYTES(_mm256, __m256i, si256, eight_bytes)
FASTNN_FN void narrow8(u8* p, vbits32 b) {
  const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(b.v), _mm256_extracti128_si256(b.v, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
}
#elif defined(FASTNN_ISA_v2)
FASTNN_FN __m128i four_bytes(const void* p) { return _mm_loadu_si32(p); }
FASTNN_X86_BYTES(_mm, __m128i, si128, four_bytes)
FASTNN_FN void narrow8(u8* p, vbits32 b) {
  const __m128i words = _mm_packus_epi32(b.v, b.v);
  _mm_storeu_si32(p, _mm_packus_epi16(words, words));
}
#elif defined(FASTNN_ISA_neon)
FASTNN_FN uint8x8_t four_bytes(const void* p) {
  u32 u;
  FASTNN_MEMCPY(&u, p, sizeof u);
  return vcreate_u8(u);
}
template <>
FASTNN_FN vbits32 widen8<vfloat>(const u8* p) {
  return vmovl_u16(vget_low_u16(vmovl_u8(four_bytes(p))));
}
template <>
FASTNN_FN vbits32 widen_signed8<vfloat>(const s8* p) {
  return vreinterpretq_u32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u8(four_bytes(p))))));
}
FASTNN_FN void narrow8(u8* p, vbits32 b) {
  const uint16x4_t words = vmovn_u32(b.v);
  const u32 u = vget_lane_u32(vreinterpret_u32_u8(vmovn_u16(vcombine_u16(words, words))), 0);
  FASTNN_MEMCPY(p, &u, sizeof u);
}
template <>
FASTNN_FN vfloat to_float<vfloat>(vbits32 b) {
  return vcvtq_f32_s32(vreinterpretq_s32_u32(b.v));
}
FASTNN_FN vbits32 multiply16(vbits32 a, vbits32 b) {
  return vreinterpretq_u32_s32(vmull_s16(vreinterpret_s16_u16(vmovn_u32(a.v)), vreinterpret_s16_u16(vmovn_u32(b.v))));
}
FASTNN_FN vbits32 load_bits(const void* p, vfloat) { return vld1q_u32(static_cast<const uint32_t*>(p)); }
#endif

// Sixteen bytes.
#if defined(FASTNN_ISA_neon)
struct vbytes {
  uint8x16_t v;
};
FASTNN_FN vbytes load_bytes(const u8* p) { return {vld1q_u8(p)}; }
FASTNN_FN void store_bytes(u8* p, vbytes b) { vst1q_u8(p, b.v); }
FASTNN_FN vbytes vmax(vbytes a, vbytes b) { return {vmaxq_u8(a.v, b.v)}; }
#elif defined(FASTNN_ISA_v2) || defined(FASTNN_ISA_v3) || defined(FASTNN_ISA_v4)
struct vbytes {
  __m128i v;
};
FASTNN_FN vbytes load_bytes(const u8* p) { return {_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))}; }
FASTNN_FN void store_bytes(u8* p, vbytes b) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), b.v); }
FASTNN_FN vbytes vmax(vbytes a, vbytes b) { return {_mm_max_epu8(a.v, b.v)}; }
#else
struct vbytes {
  u8 v[16];
};
FASTNN_FN vbytes load_bytes(const u8* p) {
  vbytes b;
  FASTNN_MEMCPY(b.v, p, sizeof b.v);
  return b;
}
FASTNN_FN void store_bytes(u8* p, vbytes b) { FASTNN_MEMCPY(p, b.v, sizeof b.v); }
FASTNN_FN vbytes vmax(vbytes a, vbytes b) {
  for (int i = 0; i < 16; ++i) a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
  return a;
}
#endif

FASTNN_END
