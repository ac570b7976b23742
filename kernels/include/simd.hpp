// The value type V: what every formula of fastnn is written over.
//
// V is float, double, or a SIMD vector of either. All of them answer to the same few names, so that one template serves
// every instruction set and, with V = float or double, a CUDA thread. This header and the files under simd/ are the
// only place with intrinsics; formulas use nothing but the names listed here.
//
//   V(c)                         every lane = the scalar c
//   + - * /  unary -  vsqrt(x)   IEEE, round to nearest even, never contracted (the build passes -ffp-contract=off)
//   < <= > >= == !=              a mask_t<V>; masks know & | !
//   select(m, a, b)              m ? a : b, lane by lane
//   fmadd(a, b, c)               a b + c  (rounded once where traits<V>::fused, twice on x86-64-v2)
//   fmsub(a, b, c)               a b - c, likewise
//   fnmadd(a, b, c)              c - a b, likewise
//   product_error(a, b, p)       exactly a b - p for p = a * b, barring underflow (with or without an FMA unit)
//   vmin(a, b), vmax(a, b)       a < b ? a : b and a > b ? a : b: the SECOND operand where either is NaN, so write
//   vmax(V(0), x) vabs(x), copysign(m, s)      on the sign bit, NaN and zeros included any(m), all(m) bool bits(x),
//   from_bits<V>(b)     reinterpretation as unsigned lanes of the same width, bits_t<V>, which know + - & | ^ and
//                                shl<k>, shr<k> (logical); bits_t<V>(u) broadcasts
//   scale(x, n)                  x 2^n for integral n between 1 - bias and bias
//   ldexp(x, n)                  x 2^n, rounded once (gradual underflow, overflow) for 1/2 <= |x| < 2 and |n| <= 2 *
//   bias nearest(x)                   x rounded to the nearest integer, ties to even, for |x| <= 2^22 (float), 2^51
//   (double) load<V>(p), store(p, x)      lanes<V> values, any alignment
//   fold_sum(x)                  the scalar sum of the lanes, the upper half added to the lower one until one is left
//   fold_max(x)                  the largest lane, where none is NaN; of 0 and -0, either
//   fetched(x)                   x, held in a register: no masked operation may fetch it
//   widen(x), narrow(d)          a vfloat as the vdoubles d.part[...], exactly, and back, rounded once
//   deinterleave(a, b)           the elements a, b one behind the other: .even those with even numbers, .odd the others
//   interleave(even, odd)        back: .first and .second, as stored one behind the other
//   store64(p, u, base)          unsigned lanes as 64-bit integers, base added to each
//   at_least16<V>(p, c)          mask: is lane i's 16-bit number p[i] >= c? For c from 0 to 65535, any alignment
//
// For quantized numbers (V = float or vfloat; int32 lanes are bits_t<V>):
//   widen8<V>(p), widen_signed8<V>(p)    lanes<V> bytes as int32 lanes
//   narrow8(p, b)                lanes from 0 to 255 as bytes
//   load_bits(p, V())            lanes<V> words from any address
//   to_float<V>(b)               int32 lanes as floats, rounded to nearest even
//   multiply16(a, b)             a times the lower half of b, as int16, for a from 0 to 32767
//   dot(quad(u), load_weights(p), x)    x + sum over j < 4 of byte j of u times the signed byte p[4 lane + j]; exact
//   offset_quads                 if so, quad counts from -128: dot is too small by 128 times the sum of its weights
//                                (simd/dots.hpp has these two, and is included by whom needs them)
//   vbytes                       sixteen bytes: load_bytes(p), store_bytes(p, b), vmax(a, b)
//
// Beside V stands the word type W, for random numbers: u32, or vwords, which holds one 32-bit word of each of
// word_lanes<W> blocks of four. Only W's own operations see how its lanes are arranged.
//
//   W(u)                         every lane = u
//   rising<W>(u)                 u, u + 1, u + 2 ... (mod 2^32) in the order of the blocks
//   product(a, b)                the 64-bit products; high(p) and low(p) are their halves, each a W
//   a ^ b, xor3(a, b, c)
//   store_blocks(p, a, b, c, d)  block by block the words a, b, c, d: 4 word_lanes<W> words, any alignment
#pragma once

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define FASTNN_HOST_DEVICE __host__ __device__
#define FASTNN_FN FASTNN_HOST_DEVICE __forceinline__
#define FASTNN_FN_COLD FASTNN_HOST_DEVICE __noinline__
#else
#define FASTNN_HOST_DEVICE
#define FASTNN_FN inline __attribute__((always_inline))
#define FASTNN_FN_COLD __attribute__((noinline, cold))
#endif
#if defined(__CUDACC_RTC__)  // which has no builtins of GCC's
#define FASTNN_MEMCPY memcpy
#define FASTNN_UNLIKELY(condition) (condition)
#else
#define FASTNN_MEMCPY __builtin_memcpy
#define FASTNN_UNLIKELY(condition) __builtin_expect(condition, 0)
#endif

// In front of a loop over the few registers that one value consists of: it is taken apart at every level of
// optimisation.
#if defined(__clang__) || defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define FASTNN_UNROLL _Pragma("unroll")
#else
#define FASTNN_UNROLL _Pragma("GCC unroll 16")
#endif

// Every instruction set compiles the same sources; an inline namespace of its own keeps the linker from merging them.
#if defined(FASTNN_ISA_v4)
#define FASTNN_ISA v4
#elif defined(FASTNN_ISA_v3)
#define FASTNN_ISA v3
#elif defined(FASTNN_ISA_v2)
#define FASTNN_ISA v2
#elif defined(FASTNN_ISA_neon)
#define FASTNN_ISA neon
#else
#define FASTNN_ISA scalar
#endif
#define FASTNN_BEGIN \
  namespace fastnn { \
  inline namespace FASTNN_ISA {
#define FASTNN_END \
  }                \
  }

FASTNN_BEGIN

using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;

// What a value type consists of: scalar, mask, bits (types), lanes, fused (does fmadd round once?).
template <class V>
struct traits;
template <class V>
using scalar_t = typename traits<V>::scalar;
template <class V>
using mask_t = typename traits<V>::mask;
template <class V>
using bits_t = typename traits<V>::bits;
template <class V>
constexpr int lanes = traits<V>::lanes;

// What a word type consists of: lanes.
template <class W>
struct word_traits;
template <class W>
constexpr int word_lanes = word_traits<W>::lanes;
template <class W>
FASTNN_FN W rising(u32 first);

// The layout of IEEE binary32 and binary64, for code that works on bits.
template <class S>
struct format;
template <>
struct format<float> {
  using uint = u32;
  static constexpr int mantissa = 23, bias = 127;
  static constexpr u32 sign = 0x80000000u, infinity = 0x7f800000u;
  static constexpr float shifter = 12582912.0f;  // 1.5 * 2^23: adding it leaves an integer in the low bits
  static constexpr float largest = 3.4028234663852886e38f, smallest_normal = 1.17549435e-38f;
};
template <>
struct format<double> {
  using uint = u64;
  static constexpr int mantissa = 52, bias = 1023;
  static constexpr u64 sign = 0x8000000000000000ull, infinity = 0x7ff0000000000000ull;
  static constexpr double shifter = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double largest = 1.7976931348623157e308, smallest_normal = 2.2250738585072014e-308;
};
template <class V>
using format_of = format<scalar_t<V>>;

FASTNN_END

#include "simd/scalar.hpp"
// what follows uses the names of the one before
#include "simd/half.hpp"
#if defined(FASTNN_ISA_v4)
#include "simd/avx512.hpp"
#elif defined(FASTNN_ISA_v3)
#include "simd/avx2.hpp"
#elif defined(FASTNN_ISA_v2)
#include "simd/sse4.hpp"
#elif defined(FASTNN_ISA_neon)
#include "simd/neon.hpp"
#else
#include "simd/generic.hpp"
#endif
#include "simd/common.hpp"
#include "simd/bytes.hpp"
