// mish(x) = x tanh(softplus(x)) = x n / (n + 2) with n = e (e + 2), e = e^x. In E = e^-x that is x / d with
//     d = E + 1/2 + 1 / (2 + 4 E),
// a sum of positive terms that does not overflow before the result vanishes. E = 2^n (1 + t) enters as 2^n and 2^n t, and what the
// sums with 2^n lose is carried along, so d costs one rounding (1.9 ULP in all; x n / (n + 2) as it stands has 3.5).
#pragma once
#include "logistic.hpp"

FASTNN_BEGIN

// d from e^-x = power (1 + t)
template <class V>
FASTNN_FN V mish_denominator(V t, V power) {
  const V half(0.5f), q = half / fmadd(V(2.0f), fmadd(power, t, power), V(1.0f));
  const V h = half + q, sum = power + h, lost = (h - (sum - power)) + (q - (h - half));
  return sum + fmadd(power, t, lost);
}

struct mish_form {
  template <class V>
  static FASTNN_FN V near(V x) {
    const exp_parts<V> p = exp_reduced_minus(x);
    return x / mish_denominator(p.t, p.power);
  }
  template <class V>
  static FASTNN_FN V far(V x) {
    const V low(exp_range_of<V>::low);
    const exp_parts<V> p = exp_reduced(clamp(-x, V(logistic_negligible<scalar_t<V>>), -low));
    const V n = vmin(V(format_of<V>::bias - 1.0f), p.n);
    return scale(vmax(low, x) / mish_denominator(p.t, exp2_integer(n)), n - p.n);
  }
};

// The derivative in w = e^-|x|: (1 + 4 w + (4 x + 6) w^2 + 4 (x + 1) w^3) / (1 + 2 w + 2 w^2)^2 for x >= 0, and for x < 0 both
// polynomials reversed, times w. The square is expanded: 1 + 4 w + 8 w^2 + 8 w^3 + 4 w^4. (In e^-x the formula for x >= 0 serves x < 0 as
// well, but the roundings of its leading terms add up to 4.5 ULP.) Far below 0 only w (4 (x + 1) + (4 x + 6) w) / (4 + 8 w) is left.
struct mish_slope_form {
  template <class V>
  static FASTNN_FN V near(V x) {
    const V one(1.0f), four(4.0f), eight(8.0f), w = exp_of(exp_reduced(-vabs(x)));
    const mask_t<V> negative = x < V(0.0f);
    const V linear = fmadd(four, x, V(6.0f)), constant = four * (x + one);
    V n = fmadd(select(negative, one, constant), w, select(negative, four, linear));
    n = fmadd_once(n, w, select(negative, linear, four));
    n = fmadd_once(n, w, select(negative, constant, one));
    n = select(negative, n * w, n);
    V d = fmadd(select(negative, one, four), w, select(negative, four, eight));
    d = fmadd(d, w, eight);
    d = fmadd_once(d, w, select(negative, eight, four));
    d = fmadd_once(d, w, select(negative, four, one));
    return n / d;
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
