// sin and cos over the whole range of float and double.
//
// x = n pi / 2 + r with |r| <= pi / 4; r is kept in two numbers, hi - lo, for one alone would already be half an ULP
// off. Two short polynomials follow, and the quadrant n mod 4 picks one of them and the sign.
#pragma once
#include "../coefficients.hpp"
#include "../simd.hpp"
#include "polynomial.hpp"

FASTNN_BEGIN

// x = quadrant pi / 2 + hi - lo; of the quadrant only the two low bits count.
template <class V>
struct reduced_angle {
  V hi, lo;
  bits_t<V> quadrant;
};

// Up to here n = nearest(x 2 / pi) fits the bits that the pieces of pi / 2 leave it, so that n times a piece is exact,
// with and without an FMA unit; and what all four pieces together miss of pi / 2 stays below an ULP of r where n pi / 2
// comes closest to a number of the format.
template <class S>
struct reduction_limit;
template <>
struct reduction_limit<float> {
  static constexpr float value = 12800.0f;  // 2^13 pi / 2 = 12867.96
};
template <>
struct reduction_limit<double> {
  static constexpr double value = 1647000.0;  // 2^20 pi / 2 = 1647099.3
};

// Cody and Waite 1980. x - n (half_pi_1 + half_pi_2) is exact: a multiple of 2^-23 (2^-52) below 1. The third piece
// rounds hi, and since its product is exact, lo is exactly the rounding error, plus the last piece. Where r is small hi
// is exact too.
// Rejected: pieces of full length, as an FMA unit allows: close to a multiple of pi / 2 the difference hi - r, then
// long against hi, is no number of the format, and lo is lost. Rejected: r in one number (3 operations fewer, good up
// to 2^17), for the half ULP that it costs.
template <class V>
FASTNN_FN reduced_angle<V> reduce_moderate_angle(V x) {
  using C = constants<scalar_t<V>>;
  const V shifter(format_of<V>::shifter);
  const V shifted = fmadd(x, V(C::two_over_pi), shifter);
  const V n = shifted - shifter;
  V r;
  if constexpr (traits<V>::fused)
    r = fnmadd(n, V(C::half_pi_1 + C::half_pi_2), x);
  else
    r = fnmadd(n, V(C::half_pi_2), fnmadd(n, V(C::half_pi_1), x));
  const V hi = fnmadd(n, V(C::half_pi_3), r);
  const V lo = fmadd(n, V(C::half_pi_4), fmadd(n, V(C::half_pi_3), hi - r));
  return {hi, lo, bits(shifted)};
}

// Payne and Hanek 1983 on 32-bit words, for |x| >= 1: x = m 2^e with a whole m of 53 bits. Bits of 2 / pi of weight
// 2^(2 - e) and more only add multiples of 4 to x 2 / pi; the 192 bits after them, times m, modulo 2^192, are the
// quadrant (two bits) and a fraction of which 137 bits are right. No double comes closer to a multiple of pi / 2 than
// 2^-61 (Muller 2006), so that 128 bits of fraction are enough for a double and half.
FASTNN_FN reduced_angle<double> reduce_any_angle(double x) {
  using F = format<double>;
  const u64 b = bits(x);
  if ((b & F::infinity) == F::infinity) return {x - x, x - x, 0};
  const u64 hidden = 1ull << F::mantissa, m = (b & (hidden - 1)) | hidden;
  const int e = static_cast<int>((b & F::infinity) >> F::mantissa) - F::bias - F::mantissa;

  const int first = e - 2 + 32 * two_over_pi_words::zeros, word = first >> 5, shift = 32 - (first & 31);
  u32 window[6], product[6];
  for (int i = 0; i < 6; ++i) {
    const u64 pair = static_cast<u64>(two_over_pi_words::at(word + i)) << 32 | two_over_pi_words::at(word + i + 1);
    window[i] = static_cast<u32>(pair >> shift);
  }
  const u64 m_low = m & 0xffffffffu, m_high = m >> 32;
  u64 carry = 0;
  for (int i = 5; i >= 0; --i) {
    carry += m_low * window[i];
    product[i] = static_cast<u32>(carry);
    carry >>= 32;
  }
  carry = 0;
  for (int i = 5; i >= 1; --i) {
    carry += m_high * window[i] + product[i - 1];
    product[i - 1] = static_cast<u32>(carry);
    carry >>= 32;
  }

  u64 quadrant = product[0] >> 30;
  u64 high = static_cast<u64>(product[0]) << 34 | static_cast<u64>(product[1]) << 2 | product[2] >> 30;
  u64 low = static_cast<u64>(product[2]) << 34 | static_cast<u64>(product[3]) << 2 | product[4] >> 30;
  const bool upper_half = high >> 63;  // nearest, not floor: the fraction becomes negative
  if (upper_half) {
    quadrant += 1;
    low = 0 - low;
    high = ~high + (low == 0);
  }
  const bool negative = b >> 63;

  // The fraction in three exact pieces of 43, 43 and 42 bits, summed up to top + rest; times pi / 2.
  const double a1 = static_cast<double>(high >> 21) * 0x1p-43;
  const double a2 = static_cast<double>((high & 0x1fffff) << 22 | low >> 42) * 0x1p-86;
  const double a3 = static_cast<double>(low & 0x3ffffffffffull) * 0x1p-128;
  using C = constants<double>;
  const double top = a1 + a2, rest = (a1 - top) + a2 + a3;
  const double p = top * C::half_pi_hi;
  const double error = product_error_by_halves(top, C::half_pi_hi, p) + (top * C::half_pi_lo + rest * C::half_pi_hi);
  const double r = p + error, excess = (r - p) - error;
  const bool flip = upper_half != negative;
  return {flip ? -r : r, flip ? -excess : excess, negative ? 0 - quadrant : quadrant};
}

// The lanes that reduce_moderate_angle does not serve, one by one; out of line, for it is rare and long.
template <class S>
FASTNN_FN_COLD void reduce_large_angles(int count, const S* x, S* hi, S* lo, S* shifted) {
  for (int i = 0; i < count; ++i) {
    const S size = vabs(x[i]);
    if (!(size > reduction_limit<S>::value)) continue;
    const reduced_angle<double> r = reduce_any_angle(static_cast<double>(x[i]));
    hi[i] = static_cast<S>(r.hi);
    lo[i] = static_cast<S>((static_cast<double>(hi[i]) - r.hi) + r.lo);
    shifted[i] = format<S>::shifter + static_cast<S>(r.quadrant & 3);
  }
}

template <class V>
FASTNN_FN reduced_angle<V> reduce_angle(V x) {
  using S = scalar_t<V>;
  reduced_angle<V> r = reduce_moderate_angle(x);
  if (any(vabs(x) > V(reduction_limit<S>::value))) {
    S lane[lanes<V>], hi[lanes<V>], lo[lanes<V>], quadrant[lanes<V>];
    store(lane, x);
    store(hi, r.hi);
    store(lo, r.lo);
    store(quadrant, from_bits<V>(r.quadrant));
    reduce_large_angles<S>(lanes<V>, lane, hi, lo, quadrant);
    r = {load<V>(hi), load<V>(lo), bits(load<V>(quadrant))};
  }
  return r;
}

// sin(quadrant pi / 2 + hi - lo), with c = hi^3: sin(hi - lo) = hi - (lo + c p(hi^2)), and
// cos(hi - lo) = 1 + hi (lo + c q(hi^2) - hi / 2); every rounding but the last is of something small.
// The minus signs are such that -0 in gives -0 out.
// Odd quadrants take the cosine, the second bit is the sign: shifted up the four are 0, 2, -0 and -2.
// Rejected: multiples of pi and a single polynomial up to pi / 2 (6 operations fewer): there the correction is no
// longer small.
// Rejected: cos(r) = 1 + (z q(z) + hi lo) with z = hi^2 (one operation more): the errors of z and of the sum count.
template <class V>
FASTNN_FN V sine_of_quadrant(V hi, V lo, bits_t<V> quadrant) {
  const V z = hi * hi, cube = hi * z;
  const V sine = hi - fmadd(cube, polynomial<sin_tail>(z), lo);
  const V cosine = fmadd(hi, fmadd(hi, V(-0.5f), fmadd(cube, polynomial<cos_tail>(z), lo)), V(1));
  const bits_t<V> code = shl<8 * static_cast<int>(sizeof(scalar_t<V>)) - 2>(quadrant);
  const V y = select(from_bits<V>(code) != V(0), cosine, sine);
  return from_bits<V>(bits(y) ^ (code & bits_t<V>(format_of<V>::sign)));
}

template <class V>
FASTNN_FN V sin(V x) {
  const reduced_angle<V> r = reduce_angle(x);
  return sine_of_quadrant(r.hi, r.lo, r.quadrant);
}

template <class V>
FASTNN_FN V cos(V x) {
  const reduced_angle<V> r = reduce_angle(x);
  return sine_of_quadrant(r.hi, r.lo, r.quadrant + bits_t<V>(1));
}

FASTNN_END
