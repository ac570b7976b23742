// The dropout family as formulas of an element: x, and whether it is kept (philox.hpp says which are).
//
// A dropped element is selected away, not multiplied by 0, so that NaN and infinity vanish with it and no result is -0.
// Backward passes are `scaled` too: dx = dy scale where kept, 0 where dropped, with the mask drawn anew.
#pragma once
#include "simd.hpp"

FASTNN_BEGIN

// y = x scale or 0. scale = 1 / (1 - rate) for inverted dropout, 1 for vanilla dropout, whose expectation is scaled at
// test time instead.
template <class V>
FASTNN_FN V scaled(V x, mask_t<V> kept, V scale) {
  return select(kept, x * scale, V(0));
}

// Alpha dropout (Klambauer et al. 2017): dropped elements become alpha' = -lambda alpha of SELU, and y = a x + b
// restores mean 0 and variance 1. With q = 1 - rate,
//   mean:      q E[x] + (1 - q) alpha' = (1 - q) alpha'                    =>  b = -a (1 - q) alpha'
//   variance:  q Var[x] + q (1 - q) (E[x] - alpha')^2 = q + q (1 - q) alpha'^2  =>  a = (q + q (1 - q) alpha'^2)^-1/2
// `dropped` is a alpha' + b.
template <class V>
FASTNN_FN V affine(V x, mask_t<V> kept, V scale, V shift, V dropped) {
  return select(kept, fmadd(scale, x, shift), dropped);
}

FASTNN_END
