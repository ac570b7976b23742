// The argument of gelu_tanh's sigmoid, z = 2 sqrt(2 / pi) (a + 0.044715 a^3), with what its rounding left off: e^z turns an error in z
// into one z times as large.
#pragma once
#include "erfc.hpp"

FASTNN_BEGIN

template <class V>
struct cubic_argument {
  V z, rest;
};
template <class V>
FASTNN_FN cubic_argument<V> gelu_tanh_argument(V a) {
  using C = constants<scalar_t<V>>;
  const V linear(C::gelu_tanh_linear_hi), cubic(C::gelu_tanh_cubic_hi);
  const V square = a * a, p = fmadd(square, cubic, linear);
  V rest = fmadd(square, V(C::gelu_tanh_cubic_lo), V(C::gelu_tanh_linear_lo));
  rest = fnmadd(product_excess(a, a, square), cubic, rest);
  if constexpr (!traits<V>::fused) rest = rest + product_error(square, cubic, square * cubic);
  rest = fmadd(square, cubic, linear - p) + rest;  // linear - p is exact
  const V z = a * p;
  return {z, fmadd(a, rest, product_error(a, p, z))};
}
// From this a on the tail a / (1 + e^z) is 0.
template <class V>
FASTNN_FN V gelu_tanh_clamp(V a) {
  return vmin(V(sizeof(scalar_t<V>) == 4 ? 11.0f : 22.0f), a);
}

FASTNN_END
