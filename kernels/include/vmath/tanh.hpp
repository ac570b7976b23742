// tanh by its own addition theorem: |x| = n ln2 / 2 + r, tau = tanh(r), and with P = 2^n
//     tanh|x| = m / (m + 2 - 2 tau),  m = (P - 1) + (P + 1) tau.
// P - 1 and P + 1 are exact as long as tau matters, and the denominator is made of the rounded m, whose error so nearly
// cancels where m is large. n is rounded so that it stays 0 up to |x| = 0.26: there the quotient is 2 tau / 2 (the sum
// rounds to exactly 2), so small arguments keep the accuracy of the short odd polynomial for tau, r + r^3 p(r^2).
//
// Rejected: expm1(2|x|) / (expm1(2|x|) + 2), five operations more and 2.3 ULP, with the other sign 2.4 ULP; the
// denominator (P + 1) + (P - 1) tau, one operation less and 2.4 ULP.
#pragma once
#include "exp.hpp"

FASTNN_BEGIN

template <class V>
FASTNN_FN V tanh(V x) {
  using C = constants<scalar_t<V>>;
  const V saturated(sizeof(scalar_t<V>) == 4 ? 10.0f : 20.0f), one(1.0f);  // from 10 (20) on tanh is 1
  const V a = vmin(saturated, vabs(x));
  const rounded<V> k = round_to_integer(fmadd(a, V(C::two_log2e), V(-0.25f)));
  const V r = fnmadd(k.n, V(C::half_ln2_lo), fnmadd(k.n, V(C::half_ln2_hi), a));
  const V z = r * r, tau = fmadd(r * z, polynomial<tanh_tail>(z), r);
  const V power = exp2_of(k), two(2.0f);
  const V m = fmadd(power + one, tau, power - one);
  return with_sign_of(m / (m + fnmadd(two, tau, two)), x);
}

FASTNN_END
