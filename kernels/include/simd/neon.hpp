// AArch64 Advanced SIMD. Division and fused multiply-add round as on x86; minima and maxima are written as selections,
// because the instructions treat NaN and signed zeros differently. Clang sees a maximum in select(0 > x, 0, x) and
// makes -0 a +0 (https://github.com/llvm/llvm-project/issues/93414), so the comparison is hidden from it.
#pragma once
#include <arm_neon.h>

FASTNN_BEGIN

// Type V over register REG, bits B over BREG; T is the float suffix, U the suffix of its bits.
#define FASTNN_NEON_VECTOR(V, S, REG, B, UINT, BREG, M, N, T, U)                                       \
  struct B {                                                                                           \
    BREG v;                                                                                            \
    B() = default;                                                                                     \
    FASTNN_FN B(BREG r) : v(r) {}                                                                      \
    FASTNN_FN explicit B(UINT u) : v(vdupq_n_##U(u)) {}                                                \
  };                                                                                                   \
  struct M {                                                                                           \
    BREG v;                                                                                            \
    FASTNN_FN M(BREG r) : v(r) {}                                                                      \
  };                                                                                                   \
  struct V {                                                                                           \
    REG v;                                                                                             \
    V() = default;                                                                                     \
    FASTNN_FN V(REG r) : v(r) {}                                                                       \
    FASTNN_FN explicit V(S c) : v(vdupq_n_##T(c)) {}                                                   \
  };                                                                                                   \
  template <>                                                                                          \
  struct traits<V> {                                                                                   \
    using scalar = S;                                                                                  \
    using mask = M;                                                                                    \
    using bits = B;                                                                                    \
    static constexpr int lanes = N;                                                                    \
    static constexpr bool fused = true;                                                                \
  };                                                                                                   \
  FASTNN_FN B operator+(B a, B b) { return vaddq_##U(a.v, b.v); }                                      \
  FASTNN_FN B operator-(B a, B b) { return vsubq_##U(a.v, b.v); }                                      \
  FASTNN_FN B operator&(B a, B b) { return vandq_##U(a.v, b.v); }                                      \
  FASTNN_FN B operator|(B a, B b) { return vorrq_##U(a.v, b.v); }                                      \
  FASTNN_FN B operator^(B a, B b) { return veorq_##U(a.v, b.v); }                                      \
  template <int k>                                                                                     \
  FASTNN_FN B shl(B a) {                                                                               \
    return vshlq_n_##U(a.v, k);                                                                        \
  }                                                                                                    \
  template <int k>                                                                                     \
  FASTNN_FN B shr(B a) {                                                                               \
    return vshrq_n_##U(a.v, k);                                                                        \
  }                                                                                                    \
  FASTNN_FN B bits(V x) { return vreinterpretq_##U##_##T(x.v); }                                       \
  template <>                                                                                          \
  FASTNN_FN V from_bits<V>(B b) {                                                                      \
    return vreinterpretq_##T##_##U(b.v);                                                               \
  }                                                                                                    \
  FASTNN_FN V operator+(V a, V b) { return vaddq_##T(a.v, b.v); }                                      \
  FASTNN_FN V operator-(V a, V b) { return vsubq_##T(a.v, b.v); }                                      \
  FASTNN_FN V operator*(V a, V b) { return vmulq_##T(a.v, b.v); }                                      \
  FASTNN_FN V operator/(V a, V b) { return vdivq_##T(a.v, b.v); }                                      \
  FASTNN_FN V operator-(V a) { return vnegq_##T(a.v); }                                                \
  FASTNN_FN V vsqrt(V x) { return vsqrtq_##T(x.v); }                                                   \
  FASTNN_FN V fmadd(V a, V b, V c) { return vfmaq_##T(c.v, a.v, b.v); }                                \
  FASTNN_FN V fnmadd(V a, V b, V c) { return vfmsq_##T(c.v, a.v, b.v); }                               \
  FASTNN_FN V fmsub(V a, V b, V c) { return vfmaq_##T(vnegq_##T(c.v), a.v, b.v); }                     \
  FASTNN_FN M operator&(M a, M b) { return vandq_##U(a.v, b.v); }                                      \
  FASTNN_FN M operator|(M a, M b) { return vorrq_##U(a.v, b.v); }                                      \
  FASTNN_FN M operator!(M a) { return veorq_##U(a.v, vdupq_n_##U(~UINT(0))); }                         \
  FASTNN_FN M operator<(V a, V b) { return vcltq_##T(a.v, b.v); }                                      \
  FASTNN_FN M operator<=(V a, V b) { return vcleq_##T(a.v, b.v); }                                     \
  FASTNN_FN M operator>(V a, V b) { return vcgtq_##T(a.v, b.v); }                                      \
  FASTNN_FN M operator>=(V a, V b) { return vcgeq_##T(a.v, b.v); }                                     \
  FASTNN_FN M operator==(V a, V b) { return vceqq_##T(a.v, b.v); }                                     \
  FASTNN_FN M operator!=(V a, V b) { return !(a == b); }                                               \
  FASTNN_FN V select(M m, V a, V b) { return vbslq_##T(m.v, a.v, b.v); }                               \
  FASTNN_FN M unseen(M m) {                                                                            \
    asm("" : "+w"(m.v));                                                                               \
    return m;                                                                                          \
  }                                                                                                    \
  FASTNN_FN V vmin(V a, V b) { return select(unseen(a < b), a, b); }                                   \
  FASTNN_FN V vmax(V a, V b) { return select(unseen(a > b), a, b); }                                   \
  FASTNN_FN bool any(M m) { return vmaxvq_u32(vreinterpretq_u32_u8(vreinterpretq_u8_##U(m.v))) != 0; } \
  FASTNN_FN bool all(M m) { return vminvq_u32(vreinterpretq_u32_u8(vreinterpretq_u8_##U(m.v))) != 0; } \
  template <>                                                                                          \
  FASTNN_FN V load<V>(const S* p) {                                                                    \
    return vld1q_##T(p);                                                                               \
  }                                                                                                    \
  FASTNN_FN void store(S* p, V x) { vst1q_##T(p, x.v); }                                               \
  FASTNN_FN void stream(S* p, V x) { vst1q_##T(p, x.v); }

FASTNN_NEON_VECTOR(vfloat, float, float32x4_t, vbits32, u32, uint32x4_t, maskf, 4, f32, u32)
FASTNN_NEON_VECTOR(vdouble, double, float64x2_t, vbits64, u64, uint64x2_t, maskd, 2, f64, u64)

FASTNN_FN void stream_fence() {}

FASTNN_FN vbits32 widen16(const u16* p) { return vmovl_u16(vld1_u16(p)); }
FASTNN_FN void narrow16(u16* p, vbits32 b) { vst1_u16(p, vmovn_u32(b.v)); }
FASTNN_FN vfloat load_binary16(const u16* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
FASTNN_FN void store_binary16(u16* p, vfloat x) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(x.v))); }

FASTNN_FN float fold_sum(vfloat x) {
  const float32x2_t two = vadd_f32(vget_low_f32(x.v), vget_high_f32(x.v));
  return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}
FASTNN_FN double fold_sum(vdouble x) { return vgetq_lane_f64(x.v, 0) + vgetq_lane_f64(x.v, 1); }

FASTNN_FN float fold_max(vfloat x) { return vmaxvq_f32(x.v); }
FASTNN_FN double fold_max(vdouble x) { return vmaxvq_f64(x.v); }

// One vector of floats as doubles, and back with one rounding.
struct doubles {
  vdouble part[2];
};
FASTNN_FN doubles widen(vfloat x) { return {{vcvt_f64_f32(vget_low_f32(x.v)), vcvt_high_f64_f32(x.v)}}; }
FASTNN_FN vfloat narrow(doubles x) { return vcvt_high_f32_f64(vcvt_f32_f64(x.part[0].v), x.part[1].v); }

FASTNN_FN even_odd<vfloat> deinterleave(vfloat a, vfloat b) { return {vuzp1q_f32(a.v, b.v), vuzp2q_f32(a.v, b.v)}; }
FASTNN_FN even_odd<vdouble> deinterleave(vdouble a, vdouble b) { return {vuzp1q_f64(a.v, b.v), vuzp2q_f64(a.v, b.v)}; }
FASTNN_FN joined<vfloat> interleave(vfloat even, vfloat odd) {
  return {vzip1q_f32(even.v, odd.v), vzip2q_f32(even.v, odd.v)};
}
FASTNN_FN joined<vdouble> interleave(vdouble even, vdouble odd) {
  return {vzip1q_f64(even.v, odd.v), vzip2q_f64(even.v, odd.v)};
}
FASTNN_FN void store64(void* p, vbits32 u, long long base) {
  const uint64x2_t b = vdupq_n_u64(static_cast<u64>(base));
  vst1q_u64(static_cast<uint64_t*>(p), vaddw_u32(b, vget_low_u32(u.v)));
  vst1q_u64(static_cast<uint64_t*>(p) + 2, vaddw_high_u32(b, u.v));
}
FASTNN_FN void store64(void* p, vbits64 u, long long base) {
  vst1q_u64(static_cast<uint64_t*>(p), vaddq_u64(u.v, vdupq_n_u64(static_cast<u64>(base))));
}

template <>
FASTNN_FN maskf at_least16<vfloat>(const u16* p, u32 bound) {
  return vcgeq_u32(widen16(p).v, vdupq_n_u32(bound));
}
template <>
FASTNN_FN maskd at_least16<vdouble>(const u16* p, u32 bound) {
  const u64 pair[] = {p[0], p[1]};
  return vcgeq_u64(vld1q_u64(reinterpret_cast<const uint64_t*>(pair)), vdupq_n_u64(bound));
}

// Random words: one 32-bit lane each, the products in two registers.
struct vwords {
  uint32x4_t v;
  vwords() = default;
  FASTNN_FN vwords(uint32x4_t r) : v(r) {}
  FASTNN_FN explicit vwords(u32 u) : v(vdupq_n_u32(u)) {}
};
struct word_products {
  uint32x4_t first, last;
};
template <>
struct word_traits<vwords> {
  static constexpr int lanes = 4;
};
template <>
FASTNN_FN vwords rising<vwords>(u32 first) {
  const uint32_t steps[] = {0, 1, 2, 3};
  return vaddq_u32(vdupq_n_u32(first), vld1q_u32(steps));
}
FASTNN_FN word_products product(vwords a, vwords b) {
  return {vreinterpretq_u32_u64(vmull_u32(vget_low_u32(a.v), vget_low_u32(b.v))),
          vreinterpretq_u32_u64(vmull_high_u32(a.v, b.v))};
}
FASTNN_FN vwords high(word_products p) { return vuzp2q_u32(p.first, p.last); }
FASTNN_FN vwords low(word_products p) { return vuzp1q_u32(p.first, p.last); }
FASTNN_FN vwords operator^(vwords a, vwords b) { return veorq_u32(a.v, b.v); }
FASTNN_FN vwords xor3(vwords a, vwords b, vwords c) { return a ^ (b ^ c); }
FASTNN_FN void store_blocks(void* p, vwords a, vwords b, vwords c, vwords d) {
  vst4q_u32(static_cast<uint32_t*>(p), {{a.v, b.v, c.v, d.v}});
}

FASTNN_END
