// log1p on [0, 1], which is where softplus and log-sigmoid need it: log(1 + e^-|x|).
//
// float: one polynomial, e + e^2 p(e). double would need 21 terms of that; there s = e / (2 + e) and log1p(e) = 2
// atanh(s), an odd series in s whose argument s^2 <= 1/9 converges six times as fast, is worth its division.
#pragma once
#include "../coefficients.hpp"
#include "polynomial.hpp"

FASTNN_BEGIN

template <class V>
FASTNN_FN V log1p_unit(V e) {
  if constexpr (sizeof(scalar_t<V>) == 4) {
    using P = log1p_tail<float>;
    const V p = fmadd_once(horner_from<P, 1>(e), e, V(P::at(0)));
    return fmadd_once(e, e * p, e);
  } else {
    const V s = e / (V(2.0) + e), z = s * s;
    return fnmadd(s, fnmadd(z, polynomial<atanh_tail>(z, z * z), e), e);
  }
}

FASTNN_END
