// mish(x) = x tanh(softplus(x)) = x n / (n + 2) with n = e (e + 2), e = e^x. In E = e^-x that is x / d with
//     d = E + 1 - r,  r = E / (1 + 2 E) <= 1/2,
// which does not overflow before the result vanishes. E = 2^n (1 + t) enters as 2^n and 2^n t, and what the sums with
// 2^n lose is carried along, so d costs one rounding (1.7 ULP in all; x n / (n + 2) as it stands has 3.5).
#pragma once
#include "logistic.hpp"

FASTNN_BEGIN

// d, what it is short of, and with it g = 1 / (1 + 2 E) and r = E g, from e^-x = power (1 + t)
template <class V>
struct mish_parts {
  V d, rest, g, r;
};
template <class V>
FASTNN_FN mish_parts<V> mish_denominator(V t, V power) {
  const V one(1.0f), e = fmadd(power, t, power), g = one / fmadd(V(2.0f), e, one), r = e * g;
  const V h = one - r, sum = power + h, lost = (h - (sum - power)) + ((one - h) - r);
  const V small = fmadd(power, t, lost), d = sum + small;
  return {d, small - (d - sum), g, r};
}

struct mish_form : exp_form {
  template <class V>
  static FASTNN_FN V near(V x) {
    const exp_parts<V> p = exp_reduced(-x, V(0.0f));  // to the last 0.1 ULP: v2 needs it to stay below 2
    return x / mish_denominator(p.t, p.power).d;
  }
  template <class V>
  static FASTNN_FN V far(V x) {
    const V low(exp_range_of<V>::low);
    const exp_parts<V> p = exp_reduced(clamp(-x, V(logistic_negligible<scalar_t<V>>), -low));
    const V n = vmin(V(format_of<V>::bias - 1.0f), p.n);
    return scale(vmax(low, x) / mish_denominator(p.t, exp2_integer(n)).d, n - p.n);
  }
};

// The derivative of x / d, with d' = -E (1 - g^2): (d + x E (1 - g^2)) / d^2 = (E (1 + x) + 1 - r (1 + x g)) / d^2, in
// the order in which the zero at -1.19 costs least: 1 + x is exact there, and E enters unrounded, as 2^n + 2^n t. Far
// below 0, in w = e^x, that is w (4 (x + 1) + (4 x + 6) w) / (4 + 8 w) to the last bit; far above it is 1.
//
// Rejected: the quotient of polynomials in e^-|x| that the formula expands to, (1 + 4 w + (4 x + 6) w^2 + 4 (x + 1)
// w^3) / (1 + 2 w + 2 w^2)^2 for x >= 0: as many operations, but the roundings of its leading terms add up to 4.2 ULP.
struct mish_slope_form : exp_form {
  template <class V>
  static FASTNN_FN V near(V x) {
    const V one(1.0f), s = one + x;
    const exp_parts<V> p = exp_reduced_minus(x);
    const mish_parts<V> m = mish_denominator(p.t, p.power);
    const V n = fmadd_once(p.power, s, fmadd_once(p.power * p.t, s, fnmadd(m.r, fmadd(x, m.g, one), one)));
    return n / fmadd_once(m.d, m.d, (m.d + m.d) * m.rest);
  }
  template <class V>
  static FASTNN_FN V far(V x) {
    const V four(4.0f), bound(-exp_range_of<V>::low);
    const exp_scaled<V> w = exp_nonpositive(-vabs(x));
    const V s = clamp(x, -bound, bound);
    const V n = fmadd(fmadd(four, s, V(6.0f)), w.e, four * (s + V(1.0f))), d = fmadd(V(8.0f), w.e, four);
    return select(x > V(0.0f), V(1.0f), scale(w.e * n / d, w.k));
  }
};

FASTNN_END
