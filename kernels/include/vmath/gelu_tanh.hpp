// What gelu_tanh needs: e^z and e^-z for z = 2 sqrt(2 / pi) (a + 0.044715 a^3), a >= 0. Exponentials turn an error of z
// into one z times as large, so z and its cubic part are sums of two numbers, of which the first of the cubic part is
// exact.
#pragma once
#include "erfc.hpp"
#include "logistic.hpp"

FASTNN_BEGIN

template <class V>
struct gelu_tanh_argument {
  V a, z, excess, cubic, cubic_rest;  // z(a) = z - excess, and its cubic part is a (cubic + cubic_rest)

  // From 11 (22) on a / (1 + e^z) is 0, and with a bounded there infinities need nothing else.
  FASTNN_FN explicit gelu_tanh_argument(V magnitude) {
    using C = constants<scalar_t<V>>;
    const V linear(C::gelu_tanh_linear_hi), factor(C::gelu_tanh_cubic_hi);
    a = vmin(V(sizeof(scalar_t<V>) == 4 ? 11.0f : 22.0f), magnitude);
    const V square = a * a, p = fmadd(square, factor, linear);
    cubic = p - linear;  // exact: linear is a short number
    const V lost = fmsub(square, factor, cubic);
    cubic_rest = fnmadd(product_excess(a, a, square), factor, fmadd(square, V(C::gelu_tanh_cubic_lo), lost));
    if constexpr (!traits<V>::fused) cubic_rest = cubic_rest + product_error(square, factor, square * factor);
    z = a * p;
    excess = fnmadd(a, cubic_rest + V(C::gelu_tanh_linear_lo), product_excess(a, p, z));
  }
};

// 2^n for n <= 0, or some number next to nothing
template <class V>
FASTNN_FN V exp2_or_tiny(rounded<V> k) {
  constexpr scalar_t<V> least = format_of<V>::shifter + 2;  // n = 2 - bias
  return exp2_of(rounded<V>{k.n, vmax(V(least), k.shifted)});
}

// a / (1 + e^z). With e^z = 2^-n (1 + t) that is a 2^n / (2^n + 1 + t): one rounding before the division, and the power
// last.
template <class V>
FASTNN_FN V gelu_tanh_tail(V magnitude) {
  const gelu_tanh_argument<V> u(magnitude);
  const reduced_decay<V> d = reduce_decay(u.z, u.excess);
  const V r = d.head - d.rest, r2 = r * r;
  const V t = d.head + fmsub(r2, polynomial<exp_tail>(r, r2), d.rest);
  const V one(1.0f), power = exp2_or_tiny(d.k);
  const V sum = one + power, lost = power - (sum - one);
  return scale_down(u.a / (sum + (t + lost)), d.k.n);
}

// Its derivative, which is gelu_tanh's at -a: E w / (1 + E)^2 with E = e^-z, w = 1 + E - a z', and a z' is z and twice
// its cubic part. w cancels around its zero, where 1 + E - z is exact; what the sums 1 + E and w lose is kept.
template <class V>
FASTNN_FN V gelu_tanh_slope(V magnitude) {
  const gelu_tanh_argument<V> u(magnitude);
  const reduced_decay<V> d = reduce_decay(u.z, u.excess);
  const V r = d.head - d.rest, r2 = r * r;
  const V s = fmadd(r2, polynomial_of_minus<exp_tail>(r, r2), d.rest) - d.head;
  const V one(1.0f), twice = u.a + u.a, e = (one + s) * exp2_or_tiny(d.k);
  const V sum = one + e, sum_lost = e - (sum - one);
  const V first = sum - u.z, second = fnmadd(twice, u.cubic, fnmadd(twice, u.cubic_rest, u.excess + sum_lost));
  const V w = first + second, w_lost = second - (w - first);
  return scale_down((w + fmadd(w, s, w_lost)) / fmadd_once(sum, sum, (sum_lost + sum_lost) * sum), d.k.n);
}

// Near 0 the argument needs no number of its own: the product x p, with p = linear + cubic x^2 and `rest` what p leaves
// off, enters the reduction of e^-z.
struct gelu_tanh_base {
  template <class S>
  static constexpr S reach = S(4.7);  // up to here linear - p is exact

  template <class V>
  struct factor {
    V p, rest;
  };
  template <class V>
  static FASTNN_FN factor<V> factor_at(V x) {
    using C = constants<scalar_t<V>>;
    const V linear(C::gelu_tanh_linear_hi), cubic(C::gelu_tanh_cubic_hi);
    const V square = x * x, p = fmadd(square, cubic, linear);
    V rest =
        fmadd(product_error(x, x, square), cubic, fmadd(square, V(C::gelu_tanh_cubic_lo), V(C::gelu_tanh_linear_lo)));
    if constexpr (!traits<V>::fused) rest = rest + product_error(square, cubic, square * cubic);
    return {p, rest + fmadd(square, cubic, linear - p)};
  }
};
struct gelu_tanh_form : gelu_tanh_base {
  template <class V>
  static FASTNN_FN V near(V x) {
    const factor<V> f = factor_at(x);
    return x / logistic_near(exp_reduced_minus(x, f.p, x * f.p, f.rest));
  }
  template <class V>
  static FASTNN_FN V far(V x) {
    return vmax(V(-0.0f), x) - gelu_tanh_tail(vabs(x));
  }
};
// With E = e^-z the derivative is (1 + E v) / (1 + E)^2, v = 1 + x z'. z' = linear + 3 cubic x^2 is p and twice its
// cubic part, which is exact; what it and v lose is kept, since v may cancel.
struct gelu_tanh_slope_form : gelu_tanh_base {
  template <class V>
  static FASTNN_FN V near(V x) {
    using C = constants<scalar_t<V>>;
    const V one(1.0f);
    const factor<V> f = factor_at(x);
    const exp_parts<V> d = exp_reduced_minus(x, f.p, x * f.p, f.rest);
    const V cubic = f.p - V(C::gelu_tanh_linear_hi), twice = cubic + cubic, p = f.p + twice;
    const V p_lost = fmadd(V(3.0f), f.rest, (f.p - p) + twice) - V(2 * C::gelu_tanh_linear_lo);
    const V product = x * p, v = one + product, back = v - product;
    const V v_lost = fmadd(x, p_lost, product_error(x, p, product)) + ((one - back) + (product - (v - back)));
    return logistic_slope(d, v, fmadd(exp_of(d), v_lost, one));
  }
  template <class V>
  static FASTNN_FN V far(V x) {
    const V slope = gelu_tanh_slope(vabs(x));
    return select(x > V(0.0f), V(1.0f) - slope, slope);
  }
};

FASTNN_END
