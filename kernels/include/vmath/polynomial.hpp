// Evaluation of the fitted coefficient tables of coefficients.hpp: Horner's rule, and even and odd terms apart.
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

// The same with x2 = x * x at hand: even and odd terms apart, which costs no operation more and halves the chain of
// operations that wait for one another.
template <class P, int i, class V>
FASTNN_FN V every_other_from(V x2) {
  if constexpr (i + 2 >= P::size)
    return V(P::at(i));
  else
    return fmadd(every_other_from<P, i + 2>(x2), x2, V(P::at(i)));
}
template <template <class> class P, class V>
FASTNN_FN V polynomial(V x, V x2) {
  using Table = P<scalar_t<V>>;
  return fmadd(every_other_from<Table, 1>(x2), x, every_other_from<Table, 0>(x2));
}
// P(-x), to the last bit of polynomial<P>(-x, x2).
template <template <class> class P, class V>
FASTNN_FN V polynomial_of_minus(V x, V x2) {
  using Table = P<scalar_t<V>>;
  return fnmadd(every_other_from<Table, 1>(x2), x, every_other_from<Table, 0>(x2));
}

FASTNN_END
