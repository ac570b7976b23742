// What the x86 instruction sets share: the same intrinsics under the prefixes _mm, _mm256 and _mm512 and the suffixes
// ps and pd. Each instruction set's own header stamps its types from these and adds masks, fmadd, and loads of 16-bit
// numbers.
#pragma once
#include <immintrin.h>

// Unsigned lanes B over register REG: prefix P, integer suffix E (epi32, epi64), whole-register suffix SI, broadcast
// SET1.
#define FASTNN_X86_BITS(B, U, REG, P, E, SI, SET1)                   \
  struct B {                                                         \
    REG v;                                                           \
    B() = default;                                                   \
    FASTNN_FN B(REG r) : v(r) {}                                     \
    FASTNN_FN explicit B(U u) : v(SET1(u)) {}                        \
  };                                                                 \
  FASTNN_FN B operator+(B a, B b) { return P##_add_##E(a.v, b.v); }  \
  FASTNN_FN B operator-(B a, B b) { return P##_sub_##E(a.v, b.v); }  \
  FASTNN_FN B operator&(B a, B b) { return P##_and_##SI(a.v, b.v); } \
  FASTNN_FN B operator|(B a, B b) { return P##_or_##SI(a.v, b.v); }  \
  FASTNN_FN B operator^(B a, B b) { return P##_xor_##SI(a.v, b.v); } \
  template <int k>                                                   \
  FASTNN_FN B shl(B a) {                                             \
    return P##_slli_##E(a.v, k);                                     \
  }                                                                  \
  template <int k>                                                   \
  FASTNN_FN B shr(B a) {                                             \
    return P##_srli_##E(a.v, k);                                     \
  }

// Vector V of S over register REG with bits B and mask M: prefix P, suffix T (ps, pd), whole-register suffix SI.
#define FASTNN_X86_VECTOR(V, S, REG, B, M, N, FUSED, P, T, SI)                      \
  struct V {                                                                        \
    REG v;                                                                          \
    V() = default;                                                                  \
    FASTNN_FN V(REG r) : v(r) {}                                                    \
    FASTNN_FN explicit V(S c) : v(P##_set1_##T(c)) {}                               \
  };                                                                                \
  template <>                                                                       \
  struct traits<V> {                                                                \
    using scalar = S;                                                               \
    using mask = M;                                                                 \
    using bits = B;                                                                 \
    static constexpr int lanes = N;                                                 \
    static constexpr bool fused = FUSED;                                            \
  };                                                                                \
  FASTNN_FN B bits(V x) { return P##_cast##T##_##SI(x.v); }                         \
  template <>                                                                       \
  FASTNN_FN V from_bits<V>(B b) {                                                   \
    return P##_cast##SI##_##T(b.v);                                                 \
  }                                                                                 \
  FASTNN_FN V operator+(V a, V b) { return P##_add_##T(a.v, b.v); }                 \
  FASTNN_FN V operator-(V a, V b) { return P##_sub_##T(a.v, b.v); }                 \
  FASTNN_FN V operator*(V a, V b) { return P##_mul_##T(a.v, b.v); }                 \
  FASTNN_FN V operator/(V a, V b) { return P##_div_##T(a.v, b.v); }                 \
  FASTNN_FN V operator-(V a) { return from_bits<V>(bits(a) ^ B(format<S>::sign)); } \
  FASTNN_FN V vmin(V a, V b) { return P##_min_##T(a.v, b.v); }                      \
  FASTNN_FN V vmax(V a, V b) { return P##_max_##T(a.v, b.v); }                      \
  FASTNN_FN V vsqrt(V x) { return P##_sqrt_##T(x.v); }                              \
  template <>                                                                       \
  FASTNN_FN V load<V>(const S* p) {                                                 \
    return P##_loadu_##T(p);                                                        \
  }                                                                                 \
  FASTNN_FN void store(S* p, V x) { P##_storeu_##T(p, x.v); }                       \
  FASTNN_FN void stream(S* p, V x) { P##_stream_##T(p, x.v); }

#define FASTNN_X86_FMA(V, P, T)                                               \
  FASTNN_FN V fmadd(V a, V b, V c) { return P##_fmadd_##T(a.v, b.v, c.v); }   \
  FASTNN_FN V fnmadd(V a, V b, V c) { return P##_fnmadd_##T(a.v, b.v, c.v); } \
  FASTNN_FN V fmsub(V a, V b, V c) { return P##_fmsub_##T(a.v, b.v, c.v); }

// Masks that are vectors of all-ones or all-zeros lanes (SSE and AVX2): COMPARE(op, a, b) gives the register.
#define FASTNN_X86_VECTOR_MASK(M, V, P, T, COMPARE)                              \
  FASTNN_FN M operator&(M a, M b) { return P##_and_##T(a.v, b.v); }              \
  FASTNN_FN M operator|(M a, M b) { return P##_or_##T(a.v, b.v); }               \
  FASTNN_FN M operator<(V a, V b) { return COMPARE(lt, LT_OQ, a.v, b.v, T); }    \
  FASTNN_FN M operator<=(V a, V b) { return COMPARE(le, LE_OQ, a.v, b.v, T); }   \
  FASTNN_FN M operator>(V a, V b) { return COMPARE(gt, GT_OQ, a.v, b.v, T); }    \
  FASTNN_FN M operator>=(V a, V b) { return COMPARE(ge, GE_OQ, a.v, b.v, T); }   \
  FASTNN_FN M operator==(V a, V b) { return COMPARE(eq, EQ_OQ, a.v, b.v, T); }   \
  FASTNN_FN M operator!=(V a, V b) { return COMPARE(neq, NEQ_UQ, a.v, b.v, T); } \
  FASTNN_FN V select(M m, V a, V b) { return P##_blendv_##T(b.v, a.v, m.v); }    \
  FASTNN_FN bool any(M m) { return P##_movemask_##T(m.v) != 0; }                 \
  FASTNN_FN bool all(M m) { return P##_movemask_##T(m.v) == (1 << lanes<V>)-1; }

// Random words over register REG: a word in the low half of each 64-bit lane, which is all that the multiplication
// reads, so that the upper half may hold anything and the low half of a product is the product itself.
#define FASTNN_X86_WORDS(REG, N, P, SI)                                                                       \
  struct vwords {                                                                                             \
    REG v;                                                                                                    \
    vwords() = default;                                                                                       \
    FASTNN_FN vwords(REG r) : v(r) {}                                                                         \
    FASTNN_FN explicit vwords(u32 u) : v(P##_set1_epi32(static_cast<int>(u))) {}                              \
  };                                                                                                          \
  template <>                                                                                                 \
  struct word_traits<vwords> {                                                                                \
    static constexpr int lanes = N;                                                                           \
  };                                                                                                          \
  FASTNN_FN vwords product(vwords a, vwords b) { return P##_mul_epu32(a.v, b.v); }                            \
  FASTNN_FN vwords high(vwords p) { return odd_words(p.v); }                                                  \
  FASTNN_FN vwords low(vwords p) { return p; }                                                                \
  FASTNN_FN vwords operator^(vwords a, vwords b) { return P##_xor_##SI(a.v, b.v); }                           \
  /* The two 64-bit halves of a block side by side; rising() numbers the lanes so that these are in order. */ \
  FASTNN_FN void store_blocks(void* p, vwords a, vwords b, vwords c, vwords d) {                              \
    const REG ab = merge_words(a.v, b.v), cd = merge_words(c.v, d.v);                                         \
    REG* const to = static_cast<REG*>(p);                                                                     \
    P##_storeu_##SI(to, P##_unpacklo_epi64(ab, cd));                                                          \
    P##_storeu_##SI(to + 1, P##_unpackhi_epi64(ab, cd));                                                      \
  }

FASTNN_BEGIN
// Streamed stores are weakly ordered: other threads may look at the result only after this.
FASTNN_FN void stream_fence() { _mm_sfence(); }
FASTNN_END
