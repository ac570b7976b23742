// Losses of single elements over V, and the excess that hinge loss adds up.
#pragma once
#include "vmath.hpp"

FASTNN_BEGIN

// Binary cross-entropy on logits: (1 - t) softplus(x) + p t softplus(-x), with the gradient (1 - t) sigmoid(x) -
// p t sigmoid(-x), p the weight of the positive class. Both come from e = e^-|x|, and neither cancels for a t of 0
// or 1. An infinite x costs nothing where it is right.
template <class V>
struct binary_cross_entropy {
  V loss, gradient;
};
template <class V>
FASTNN_FN binary_cross_entropy<V> binary_cross_entropy_of(V x, V t, V p) {
  const V zero(0.0f), one(1.0f);
  const V e = exp_of_nonpositive(-vabs(x)), l = log1p_unit(e);
  const V plus = vmax(zero, x) + l, minus = vmax(zero, -x) + l;
  const V negative = one - t, positive = p * t;
  const V loss = select(negative == zero, zero, negative * plus) + select(positive == zero, zero, positive * minus);
  const V high = one / (one + e), low = e * high;
  const mask_t<V> above = x >= zero;
  const V gradient = negative * select(above, high, low) - positive * select(above, low, high);
  const mask_t<V> valid = x == x;
  return {select(valid, loss, x), select(valid, gradient, x)};
}

// Hinge loss: how far x comes within the margin of the label's score; scores are compared, so that infinite ones are
// never subtracted from themselves.
template <class V>
FASTNN_FN V hinge_excess(V x, V score, V margin) {
  return select(x == score, margin, (x - score) + margin);
}

FASTNN_END
