// sigmoid(x) = 1 / (1 + e^-x), and x sigmoid(x), in E = e^-x = 2^n (1 + t).
//
// Near 0 the denominator is (1 + 2^n) + 2^n t with an exact 1 + 2^n: one rounding. Further out what 1 + 2^n loses joins
// the second product, and where E would overflow the rest of its power is kept in k and applied last: x / d 2^k is
// right down to the last normal result.
//
// Rejected: 0.5 + 0.5 tanh(x / 2), which cancels for x < 0; w / (1 + w) with w = e^x, 2.0 ULP because w is rounded on
// its own; a 14-bit reciprocal with a Newton step, no faster than division.
#pragma once
#include "exp.hpp"

FASTNN_BEGIN

// 1 + e^-x = d 2^-k
template <class V>
struct logistic {
  V d, k;
};

// 1 + e^this is 1.
template <class S>
constexpr S logistic_negligible = sizeof(S) == 4 ? S(-20) : S(-40);

template <class V>
FASTNN_FN V logistic_near(exp_parts<V> p) {
  return fmadd(p.power, p.t, V(1.0f) + p.power);
}
// From the parts of e^-x, which is at least e^logistic_negligible.
template <class V>
FASTNN_FN logistic<V> logistic_far(exp_parts<V> p) {
  const V one(1.0f), n = vmin(V(format_of<V>::bias - 1.0f), p.n), power = exp2_integer(n);
  const V sum = one + power, lost = one - (sum - power);
  return {sum + fmadd(power, p.t, lost), n - p.n};
}
template <class V>
FASTNN_FN logistic<V> logistic_far(V x) {
  return logistic_far(exp_reduced(clamp(-x, V(logistic_negligible<scalar_t<V>>), V(-exp_range_of<V>::low))));
}

struct sigmoid_form : exp_form {
  template <class V>
  static FASTNN_FN V near(V x) {
    return V(1.0f) / logistic_near(exp_reduced_minus(x));
  }
  template <class V>
  static FASTNN_FN V far(V x) {
    const logistic<V> s = logistic_far(x);
    return scale(V(1.0f) / s.d, s.k);
  }
};

// x sigmoid(x). The factor x is bounded below so that -inf gives -0, not -inf * 0.
struct silu_form : exp_form {
  template <class V>
  static FASTNN_FN V near(V x) {
    return x / logistic_near(exp_reduced_minus(x));
  }
  template <class V>
  static FASTNN_FN V far(V x) {
    const logistic<V> s = logistic_far(x);
    return scale(vmax(V(exp_range_of<V>::low), x) / s.d, s.k);
  }
};

// The derivative of z sigmoid(z) from w = e^-|z|: (1 + w (1 + z)) / (1 + w)^2 for z >= 0, w (1 + w + z) / (1 + w)^2 for
// z < 0. The square is expanded: one rounding instead of three. z may come with a rounding error of its own.
template <class V>
FASTNN_FN V silu_slope(V z, V error, exp_scaled<V> w) {
  const V one(1.0f), bound(-exp_range_of<V>::low);
  const V s = (one + clamp(z, -bound, bound)) + error;
  const V square = fmadd(w.e, w.e + V(2.0f), one);
  const mask_t<V> negative = z < V(0.0f);
  const V n = select(negative, fmadd(w.e, w.e, w.e * s), fmadd(w.e, s, one));
  return scale(n / square, select(negative, w.k, V(0.0f)));
}
// The derivative of x sigmoid(x) near 0, where E = e^-x may stand for either sign: (1 + E (1 + x)) / (1 + E)^2.
struct silu_slope_form : exp_form {
  template <class V>
  static FASTNN_FN V near(V x) {
    const V one(1.0f), e = exp_of(exp_reduced_minus(x));
    return fmadd(e, one + x, one) / fmadd(e, e + V(2.0f), one);
  }
  template <class V>
  static FASTNN_FN V far(V x) {
    return silu_slope(x, V(0.0f), exp_nonpositive(-vabs(x)));
  }
};

// The same fraction, (1 + E v) / (1 + E)^2 with v = 1 + z or what takes its place, for a z that is rounded itself: E
// enters as power + power t, and of both sums and the square nothing is lost but one rounding each. `one` is 1, or 1
// and E times what v is short of.
template <class V>
FASTNN_FN V logistic_slope(exp_parts<V> p, V v, V one) {
  const V small = p.power * p.t, sum = V(1.0f) + p.power, d = sum + small, lost = small - (d - sum);
  const V n = fmadd_once(p.power, v, fmadd(small, v, one));
  return n / fmadd_once(d, d, (d + d) * lost);
}

// x sigmoid(z) with z = beta x. Infinite x is taken as the largest number where z < 0, so that the result is a limit;
// |z| is bounded where x e^z is 0 for every finite x, and the rounding error of the product goes into the reduction.
struct swish_form : exp_form {
  template <class V>
  struct argument {
    V x, z, error;
  };
  template <class V>
  static FASTNN_FN argument<V> product(V x, V beta) {
    const V largest(format_of<V>::largest), bound(-2.0f * exp_range_of<V>::low);
    const V finite = clamp(x, -largest, largest), rounded = beta * finite, z = clamp(rounded, -bound, bound);
    return {select(z < V(0.0f), finite, x), z, select(z == rounded, product_error(beta, finite, rounded), V(0.0f))};
  }
  template <class V>
  static FASTNN_FN V near(V z, V x, V beta) {
    return x / logistic_near(exp_reduced_minus(x, beta, z));
  }
  template <class V>
  static FASTNN_FN V far(V, V x, V beta) {
    const argument<V> a = product(x, beta);
    const logistic<V> s = logistic_far(exp_reduced(vmax(V(logistic_negligible<scalar_t<V>>), -a.z), -a.error));
    const V half = nearest(s.k * V(0.5f));  // 2^k may lie beyond one step
    return scale(scale(a.x / s.d, half), s.k - half);
  }
};
struct swish_slope_form : exp_form {
  template <class V>
  static FASTNN_FN V near(V z, V x, V beta) {
    const V one(1.0f);
    return logistic_slope(exp_reduced_minus(x, beta, z), fmadd_once(x, beta, one), one);
  }
  template <class V>
  static FASTNN_FN V far(V, V x, V beta) {
    const swish_form::argument<V> a = swish_form::product(x, beta);
    const V error = select(a.z > V(0.0f), -a.error, a.error);
    const exp_parts<V> p = exp_reduced(vmax(V(exp_range_of<V>::low), -vabs(a.z)), error);
    return silu_slope(a.z, a.error, exp_nonpositive(p));
  }
};

FASTNN_END
