// Horner's rule over the fitted coefficient tables of coefficients.hpp.
#pragma once
#include "../simd.hpp"

FASTNN_BEGIN

// P<scalar> is a generated table: P::size coefficients, P::at(i) the one of x^i.
template <class P, int i, class V>
FASTNN_FN V horner_from(V x) {
  if constexpr (i + 1 == P::size)
    return V(P::at(i));
  else
    return fmadd(horner_from<P, i + 1>(x), x, V(P::at(i)));
}
template <template <class> class P, class V>
FASTNN_FN V polynomial(V x) {
  return horner_from<P<scalar_t<V>>, 0>(x);
}

// P(-x), to the last bit of polynomial<P>(-x).
template <class P, int i, class V>
FASTNN_FN V horner_of_minus_from(V x) {
  if constexpr (i + 1 == P::size)
    return V(P::at(i));
  else
    return fnmadd(horner_of_minus_from<P, i + 1>(x), x, V(P::at(i)));
}
template <template <class> class P, class V>
FASTNN_FN V polynomial_of_minus(V x) {
  return horner_of_minus_from<P<scalar_t<V>>, 0>(x);
}

FASTNN_END
