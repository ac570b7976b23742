// exp and expm1 over V.
//
// Reduction (Cody and Waite 1980): x = n ln2 + r with n integral and |r| <= ln2 / 2; ln2 is split so that n * ln2_hi is
// exact without an FMA unit too. Then e^r = 1 + (r + r^2 q(r)), with q fitted to the relative error of expm1, so that
// one polynomial serves both functions. 2^n is applied last, by whoever needs it: a quotient such as x e / (1 + e)
// stays accurate where e alone is subnormal, as long as 2^n is the last factor.
#pragma once
#include "../coefficients.hpp"
#include "polynomial.hpp"

FASTNN_BEGIN

// Beyond these bounds exp is 0 or infinity in the format, also when multiplied by numbers a few hundred in size.
template <class S>
struct exp_range;
template <>
struct exp_range<float> {
  static constexpr float low = -110.0f, high = 89.0f;
  static constexpr float expm1_low = -18.0f;  // e^-18 < 2^-25: expm1 is -1
};
template <>
struct exp_range<double> {
  static constexpr double low = -755.0, high = 710.0;
  static constexpr double expm1_low = -38.0;
};
template <class V>
using exp_range_of = exp_range<scalar_t<V>>;

// e^x = (1 + t) 2^n. `power` is 2^n as long as that is normal; where it is not used it costs nothing.
template <class V>
struct exp_parts {
  V t, n, power;
};

// For |x| within a few hundred.
template <class V>
FASTNN_FN exp_parts<V> exp_reduced(V x) {
  using C = constants<scalar_t<V>>;
  const rounded<V> k = round_product(x, V(C::log2e));
  const V r = fnmadd(k.n, V(C::ln2_lo), fnmadd(k.n, V(C::ln2_hi), x));
  const V r2 = r * r;
  return {fmadd(r2, polynomial<exp_tail>(r, r2), r), k.n, exp2_of(k)};
}
// The same for e^-x, to the last bit of exp_reduced(-x), without the negation: r = -s, and s runs through Horner's rule
// instead.
template <class V>
FASTNN_FN exp_parts<V> exp_reduced_minus(V x) {
  using C = constants<scalar_t<V>>;
  const rounded<V> k = round_product(x, V(-C::log2e));
  const V s = fmadd(k.n, V(C::ln2_lo), fmadd(k.n, V(C::ln2_hi), x));
  const V s2 = s * s;
  return {fmsub(s2, polynomial_of_minus<exp_tail>(s, s2), s), k.n, exp2_of(k)};
}
// a b + c where c nearly cancels the product ab: rounded once, without an FMA unit too.
template <class V>
FASTNN_FN V product_plus(V a, V b, V ab, V c) {
  if constexpr (traits<V>::fused)
    return fmadd(a, b, c);
  else
    return (ab + c) + product_error(a, b, ab);
}
// The same for e^-(a b): the product's rounding error would count e^-(a b) times, so it does not take place: a b enters
// a sum with the exact n ln2_hi, rounded once. `ab` is the rounded product, for v2, and for n; `rest` what b leaves
// off.
template <class V>
FASTNN_FN exp_parts<V> exp_reduced_minus(V a, V b, V ab, V rest) {
  using C = constants<scalar_t<V>>;
  const rounded<V> k = round_product(ab, V(-C::log2e));
  // the small terms of s enter the sum unrounded
  const V exact = product_plus(a, b, ab, k.n * V(C::ln2_hi)), small = fmadd(a, rest, k.n * V(C::ln2_lo));
  const V s = exact + small, s2 = s * s;
  return {fmsub(s2, polynomial_of_minus<exp_tail>(s, s2), small) - exact, k.n, exp2_of(k)};
}
template <class V>
FASTNN_FN exp_parts<V> exp_reduced_minus(V a, V b, V ab) {
  using C = constants<scalar_t<V>>;
  const rounded<V> k = round_product(ab, V(-C::log2e));
  const V s = fmadd(k.n, V(C::ln2_lo), product_plus(a, b, ab, k.n * V(C::ln2_hi)));
  const V s2 = s * s;
  return {fmsub(s2, polynomial_of_minus<exp_tail>(s, s2), s), k.n, exp2_of(k)};
}
// e^(x + c), c being the small rounding error of whatever computed x. x - n ln2_hi is exact, and what adding c and the
// rest of n ln2 to it would lose joins the small terms of the sum, which is worth 0.2 ULP even where c is 0.
template <class V>
FASTNN_FN exp_parts<V> exp_reduced(V x, V c) {
  using C = constants<scalar_t<V>>;
  const rounded<V> k = round_product(x, V(C::log2e));
  const V exact = fnmadd(k.n, V(C::ln2_hi), x), rest = fnmadd(k.n, V(C::ln2_lo), c), r = exact + rest;
  const V r2 = r * r;
  return {exact + fmadd(r2, polynomial<exp_tail>(r, r2), rest), k.n, exp2_of(k)};
}

// x between low and high; NaN stays.
template <class V>
FASTNN_FN V clamp(V x, V low, V high) {
  return vmin(high, vmax(low, x));
}

template <class V>
FASTNN_FN V exp(V x) {
  using R = exp_range_of<V>;
  const exp_parts<V> e = exp_reduced(clamp(x, V(R::low), V(R::high)));
  return ldexp(V(1.0f) + e.t, e.n);
}

// e^x = e 2^k for x <= 0, with e normal: k is 0 unless e^x itself is not. Applying 2^k last keeps products accurate.
template <class V>
struct exp_scaled {
  V e, k;
};
template <class V>
FASTNN_FN exp_scaled<V> exp_nonpositive(exp_parts<V> p) {
  const V n = vmax(V(2.0f - format_of<V>::bias), p.n);
  return {scale(V(1.0f) + p.t, n), p.n - n};
}
template <class V>
FASTNN_FN exp_scaled<V> exp_nonpositive(V x) {
  return exp_nonpositive(exp_reduced(vmax(V(exp_range_of<V>::low), x)));
}

// 2^n (1 + t) where 2^n and the result are normal.
template <class V>
FASTNN_FN V exp_of(exp_parts<V> p) {
  return fmadd(p.power, p.t, p.power);
}
// e^x for x <= 0
template <class V>
FASTNN_FN V exp_of_nonpositive(V x) {
  const exp_scaled<V> w = exp_nonpositive(x);
  return scale(w.e, w.k);
}

// e^x - 1 from the parts of e^x: 2^n t + (2^n - 1).
template <class V>
FASTNN_FN V expm1_of(exp_parts<V> e) {
  return fmadd(e.power, e.t, e.power - V(1.0f));
}
// For x up to 80, beyond which nobody asks. -0 becomes +0.
template <class V>
FASTNN_FN V expm1(V x) {
  return expm1_of(exp_reduced(vmax(V(exp_range_of<V>::expm1_low), x)));
}

// Far from 0 exponentials need care, with their range and with sums like 1 + e^x, that costs half as much again; and
// activations rarely see such arguments. So a formula may have two forms: Form::near for |x| <= Form::reach, where 2^n
// and 1 + 2^n are exact, and Form::far for every x, NaN included. A vector that holds any far argument computes both
// and selects, so that a number's result does not depend on its neighbours.
template <class S>
constexpr S exp_near = sizeof(S) == 4 ? S(16) : S(36);

template <class Form, class V, class... P>
FASTNN_FN_COLD V near_and_far(V x, P... parameters) {
  const mask_t<V> near = vabs(x) <= V(Form::template reach<scalar_t<V>>);
  return select(near, Form::near(x, parameters...), Form::far(x, parameters...));
}
template <class Form, class V, class... P>
FASTNN_FN V near_or_far(V x, P... parameters) {
  if (FASTNN_UNLIKELY(!all(vabs(x) <= V(Form::template reach<scalar_t<V>>))))
    return near_and_far<Form>(x, parameters...);
  return Form::near(x, parameters...);
}
// What most forms are derived from.
struct exp_form {
  template <class S>
  static constexpr S reach = exp_near<S>;
};

FASTNN_END
