// The Gaussian tail Q(a) = 0.5 erfc(a / sqrt(2)) for a >= 0, what GELU needs of it, and erfc.
//
// Q(a) = e^(-a^2/2) h(a), and h falls from 1/2 like 1 / (a sqrt(2 pi)). A quotient takes most of that, a polynomial the
// rest: 2 (1 + a) h(a) = 1 + f(t), t = (a - c) / (a + c), where f stays within [-0.15, 0.06] and is 0 at a = 0, so that
// its rounding errors hardly count. Neither 1 + f nor e^-r = 1 + s is ever rounded to a number near 1: the product
// w (1 + f)(1 + s) is w + w m with m = s + f + s f. 2^n comes last, so that a Q(a) is right where e^(-a^2/2) is
// subnormal already. Three roundings are left: that of the quotient w, that of m, and the last. The rounding error of 1
// + a would be a fourth; it is known exactly and goes into f.
//
// Rejected: one quotient for both, w = a / (a + 2) with a polynomial in w (12 terms, f reaches -0.5, 4 ULP in the
// tail); P(a) / Q(a) (one division and one term less, but the roundings of P and Q add up to more than 2 ULP); log(h)
// added to the exponent (its own rounding errors are those of a number up to 3.5); leaving the error of 1 + a alone
// (2.8 ULP). Piecewise polynomials with their coefficients in permuted registers would save both divisions, but only
// AVX-512 has such tables cheaply.
#pragma once
#include "exp.hpp"

FASTNN_BEGIN

// p - a b for p = a * b: the error of that product, with the sign that spares a negation
template <class V>
FASTNN_FN V product_excess(V a, V b, V p) {
  if constexpr (traits<V>::fused)
    return fnmadd(a, b, p);
  else
    return -product_error_by_halves(a, b, p);
}

// x 2^n, rounded once, for |x| up to some thousands and -1.4 * bias <= n <= 0: shorter than ldexp, which goes both ways
template <class V>
FASTNN_FN V scale_down(V x, V n) {
  if constexpr (scales_any<V>) {
    return scale(x, n);
  } else {
    using F = format_of<V>;
    constexpr int lift = (F::bias + 1) / 2;
    constexpr auto lowered = static_cast<typename F::uint>(F::bias - lift) << F::mantissa;
    const V lifted = n + V(F::shifter + (F::bias + lift));
    return x * from_bits<V>(shl<F::mantissa>(bits(lifted))) * from_bits<V>(bits_t<V>(lowered));
  }
}

// x - excess = head - rest - k.n ln2 for x >= 0 and a small excess: e^(x - excess) is 2^-n e^(head - rest). head is
// exact.
template <class V>
struct reduced_decay {
  V head, rest;
  rounded<V> k;
};
template <class V>
FASTNN_FN reduced_decay<V> reduce_decay(V x, V excess) {
  using C = constants<scalar_t<V>>;
  const rounded<V> k = round_product(x, V(-C::log2e));
  return {fmadd(k.n, V(C::ln2_hi), x), fnmadd(k.n, V(C::ln2_lo), excess), k};
}

// e^(excess - x) = (1 + tail - head) 2^n
template <class V>
struct decay {
  V head, tail, n;
};
template <class V>
FASTNN_FN decay<V> decay_reduced(V x, V excess) {
  const reduced_decay<V> d = reduce_decay(x, excess);
  const V r = d.head - d.rest, r2 = r * r;
  return {d.head, fmadd(r2, polynomial_of_minus<exp_tail>(r, r2), d.rest), d.k.n};
}
// e^-(a b) for a b >= 0
template <class V>
FASTNN_FN decay<V> decay_of_product(V a, V b) {
  const V x = a * b;
  return decay_reduced(x, product_excess(a, b, x));
}

// w (1 + f) times the decay
template <class V>
FASTNN_FN V decayed(V w, V f, decay<V> e) {
  const V s = e.tail - e.head;
  const V m = (e.tail + fmadd(s, f, f)) - e.head;
  return scale_down(fmadd_once(w, m, w), e.n);
}

// f(t) of the table P, t in [-1, 1) for a in [0, infinity)
template <template <class> class P, class V>
FASTNN_FN V gaussian_shape(V a) {
  const V c(constants<scalar_t<V>>::gaussian_center);
  const V t = (a - c) / (a + c);
  return polynomial<P>(t, t * t);
}

// From here on a Q(a) underflows to 0; nothing overflows before.
template <class S>
constexpr S gaussian_end = sizeof(S) == 4 ? S(15) : S(39.5);
template <class V>
FASTNN_FN V gaussian_clamp(V a) {
  return vmin(V(gaussian_end<scalar_t<V>>), a);
}

// a Q(a) for a >= 0; NaN stays.
template <class V>
FASTNN_FN V times_gaussian_tail(V magnitude) {
  const V a = gaussian_clamp(magnitude), one(1.0f), half = a * V(0.5f);
  const V d = one + a, w = half / d;
  const V lost = a - (d - one);
  // f - lost / d, as 1 / d = 1 - 2 w
  const V f = fmadd(lost + lost, w - V(0.5f), gaussian_shape<gaussian_tail_shape>(a));
  return decayed(w, f, decay_of_product(a, half));
}

// Q(a) for a >= 0; NaN stays.
template <class V>
FASTNN_FN V gaussian_tail(V magnitude) {
  const V a = gaussian_clamp(magnitude), one(1.0f), half(0.5f);
  const V d = one + a, w = half / d;
  const V lost = a - (d - one);
  const V f = fnmadd(lost + lost, w, gaussian_shape<gaussian_tail_shape>(a));
  return decayed(w, f, decay_of_product(a, a * half));
}

// Q(a) + a Q'(a) for a >= 0, which is the derivative of GELU at -a; NaN stays. It is e^(-a^2/2) (h(a) - a / sqrt(2
// pi)), and the bracket, with its one zero z = 0.7518, is (z - a) / 2 times 1 + f(t). With the zero split off nothing
// cancels, and as f stays within [-0.21, 0.34] there is no quotient but that of t.
template <class V>
FASTNN_FN V gaussian_tail_slope(V magnitude) {
  using C = constants<scalar_t<V>>;
  const V a = gaussian_clamp(magnitude), half = a * V(0.5f);
  const V w = (V(C::half_gelu_zero_hi) - half) + V(C::half_gelu_zero_lo);
  return decayed(w, gaussian_shape<gelu_slope_shape>(a), decay_of_product(a, half));
}

// erfc(x) = 2 Q(sqrt(2) x), but with e^(-x^2) of x itself.
template <class V>
FASTNN_FN V erfc(V x) {
  using C = constants<scalar_t<V>>;
  const V one(1.0f), root(C::sqrt2_hi);
  const V a = vmin(V(gaussian_end<scalar_t<V>> * scalar_t<V>(0.7)), vabs(x));
  const V d = fmadd(root, a, one), w = one / d;
  const V lost = fmadd(root, a, one - d) + a * V(C::sqrt2_lo);
  const V f = fnmadd(lost, w, gaussian_shape<gaussian_tail_shape>(root * a));
  const V tail = decayed(w, f, decay_of_product(a, a));
  return select(x < V(0.0f), V(2.0f) - tail, tail);
}

FASTNN_END
