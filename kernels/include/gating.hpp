// Gated linear units over V: glu = a sigmoid(b), swiglu = silu(a) b, and their gradients; and the step of maxout.
//
// All of them are products with a function of e = e^-|z| = E 2^k, E normal, and k not 0 only where e is not normal. 2^k
// is applied to the finished product: a sigmoid(b) is right where sigmoid(b) alone would be subnormal or 0.
#pragma once
#include "vmath.hpp"

FASTNN_BEGIN

// Below this z, products of e^z with numbers as large as there are vanish.
template <class V>
constexpr scalar_t<V> gate_low = 2 * exp_range_of<V>::low;

template <class V>
struct gate {
  V z, e, k;
  mask_t<V> above;  // is z >= 0?

  FASTNN_FN explicit gate(V x) : z(vmax(V(gate_low<V>), x)), above(x >= V(0.0f)) {
    const exp_parts<V> p = exp_reduced(vmax(V(gate_low<V>), -vabs(x)));
    const V n = vmax(V(2.0f - format_of<V>::bias), p.n);
    e = scale(V(1.0f) + p.t, n);
    k = p.n - n;
  }
  // sigmoid(z) 2^-k, where k counts for z < 0 only
  FASTNN_FN V sigmoid() const { return select(above, V(1.0f), e) / (V(1.0f) + e); }
  FASTNN_FN V sigmoid_power() const { return select(above, V(0.0f), k); }
  // (1 + e)^2, expanded: one rounding instead of three
  FASTNN_FN V square() const { return fmadd(e, e + V(2.0f), V(1.0f)); }
  // The derivative sigmoid(z) sigmoid(-z), 2^-k
  FASTNN_FN V sigmoid_slope() const { return e / square(); }
  // The derivative of z sigmoid(z), 2^-sigmoid_power(): (1 + e (1 + z)) / (1 + e)^2, or e (1 + e + z) / (1 + e)^2
  FASTNN_FN V silu_slope() const {
    const V bound(-gate_low<V>), s = V(1.0f) + vmin(bound, z);
    return select(above, fmadd(e, s, V(1.0f)), fmadd(e, e, e * s)) / square();
  }
};

// x 2^k
template <class V>
FASTNN_FN V with_power(V x, V k) {
  if (FASTNN_UNLIKELY(any(k < V(0.0f)))) {  // beyond one step, and through subnormal numbers not rounded twice
    const V half = nearest(k * V(0.5f));
    x = scale(scale(x, half), k - half);
  }
  return x;
}

// The halves are (a, b) in memory. backward gives the gradients by both.
struct glu {
  template <class V>
  static FASTNN_FN V forward(V a, V b) {
    const gate<V> g(b);
    return with_power(a * g.sigmoid(), g.sigmoid_power());
  }
  template <class V>
  static FASTNN_FN void backward(V dy, V a, V b, V& da, V& db) {
    const gate<V> g(b);
    da = with_power(dy * g.sigmoid(), g.sigmoid_power());
    db = with_power(dy * g.sigmoid_slope() * a, g.k);
  }
};
struct swiglu {
  template <class V>
  static FASTNN_FN V forward(V a, V b) {
    const gate<V> g(a);
    return with_power(g.z * g.sigmoid() * b, g.sigmoid_power());
  }
  template <class V>
  static FASTNN_FN void backward(V dy, V a, V b, V& da, V& db) {
    const gate<V> g(a);
    da = with_power(dy * g.silu_slope() * b, g.sigmoid_power());
    db = with_power(g.z * g.sigmoid() * dy, g.sigmoid_power());
  }
};

// maxout: does x take the place of the best piece so far? The first of the largest stays, or the first NaN.
template <class V>
FASTNN_FN mask_t<V> is_larger(V x, V best) {
  return (x > best) | ((x != x) & (best == best));
}

FASTNN_END
