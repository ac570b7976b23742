// One step of each optimiser for one vector of parameters: PyTorch's update rules, in place on V values.
//
// Settings come as doubles and are rounded once to V's scalar: what does not depend on the element (bias corrections,
// lr / correction) is worked out in double before. A term whose coefficient is 0 is left out, not multiplied by 0, so
// that an infinity in what it would multiply does not make a NaN. On instruction sets with an FMA unit every sum
// a x + b y is rounded once.
#pragma once
#include "optimizer_settings.hpp"
#include "simd.hpp"

FASTNN_BEGIN
namespace optimizer {

using namespace fastnn_optimizer;

// g <- g + wd p;  v <- mu v + (1 - dampening) g;  p <- p - lr (nesterov ? g + mu v : v).
// Without momentum v is neither read nor written.
template <class V>
struct sgd {
  using S = scalar_t<V>;
  using settings = sgd_settings;
  static constexpr int states = 1;
  const V lr, momentum, fresh, weight_decay;
  const bool decays, moves, nesterov, first, maximize;

  explicit FASTNN_FN sgd(const sgd_settings& s)
      : lr(S(s.lr)),
        momentum(S(s.momentum)),
        fresh(S(1 - s.dampening)),
        weight_decay(S(s.weight_decay)),
        decays(s.weight_decay != 0),
        moves(s.momentum != 0),
        nesterov(s.nesterov),
        first(s.first),
        maximize(s.maximize) {}
  FASTNN_FN bool uses(int) const { return moves; }
  FASTNN_FN void step(V& p, V g, V (&state)[states]) const {
    if (maximize) g = -g;
    if (decays) g = fmadd(weight_decay, p, g);
    if (moves) {
      V& v = state[0];
      v = first ? g : fmadd(momentum, v, fresh * g);
      g = nesterov ? fmadd(momentum, v, g) : v;
    }
    p = fnmadd(lr, g, p);
  }
};

// g <- g + wd p;  s <- alpha s + (1 - alpha) g^2;  centred: a <- alpha a + (1 - alpha) g and s - a^2 in place of s;
// d = g / (sqrt(s) + eps);  with momentum v <- mu v + d and d = v;  p <- p - lr d.
// s - a^2 cancels, and where the rounding of s and a takes it below 0 it counts as 0 (PyTorch: NaN from there on).
template <class V>
struct rmsprop {
  using S = scalar_t<V>;
  using settings = rmsprop_settings;
  static constexpr int states = 3;  // square average, gradient average, velocity
  const V lr, alpha, fresh, eps, weight_decay, momentum;
  const bool decays, centered, moves, maximize;

  explicit FASTNN_FN rmsprop(const rmsprop_settings& s)
      : lr(S(s.lr)),
        alpha(S(s.alpha)),
        fresh(S(1 - s.alpha)),
        eps(S(s.eps)),
        weight_decay(S(s.weight_decay)),
        momentum(S(s.momentum)),
        decays(s.weight_decay != 0),
        centered(s.centered),
        moves(s.momentum != 0),
        maximize(s.maximize) {}
  FASTNN_FN bool uses(int k) const { return k == 0 || (k == 1 ? centered : moves); }
  FASTNN_FN void step(V& p, V g, V (&state)[states]) const {
    if (maximize) g = -g;
    if (decays) g = fmadd(weight_decay, p, g);
    state[0] = fmadd(alpha, state[0], fresh * g * g);
    V variance = state[0];
    if (centered) {
      state[1] = fmadd(alpha, state[1], fresh * g);
      variance = vmax(V(S(0)), fnmadd(state[1], state[1], variance));
    }
    V d = g / (vsqrt(variance) + eps);
    if (moves) d = state[2] = fmadd(momentum, state[2], d);
    p = fnmadd(lr, d, p);
  }
};

// m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;  p <- p - (lr / c1) m / (sqrt(v) / sqrt(c2) + eps), c = 1 -
// b^step. Weight decay: coupled (Adam) g <- g + wd p, decoupled (AdamW) p <- p - lr wd p; the latter is added to the
// update, which is rounded once with p: p (1 - lr wd) would round the factor, which for lr wd below 2^-25 is then 1.
// The clamp keeps an infinite p infinite. amsgrad: the largest v so far, state[2], in place of v.
template <class V>
struct adam {
  using S = scalar_t<V>;
  using settings = adam_settings;
  static constexpr int states = 3;  // m, v, largest v
  const V beta1, fresh1, beta2, fresh2, step_size, to_root, eps, weight_decay;
  const bool decays, decoupled, amsgrad, maximize;

  explicit FASTNN_FN adam(const adam_settings& s)
      : beta1(S(s.beta1)),
        fresh1(S(1 - s.beta1)),
        beta2(S(s.beta2)),
        fresh2(S(1 - s.beta2)),
        step_size(S(s.lr / s.correction1)),
        to_root(S(1 / s.root_correction2)),
        eps(S(s.eps)),
        weight_decay(S(s.decoupled ? s.lr * s.weight_decay : s.weight_decay)),
        decays(s.weight_decay != 0),
        decoupled(s.decoupled),
        amsgrad(s.amsgrad),
        maximize(s.maximize) {}
  FASTNN_FN bool uses(int k) const { return k < 2 || amsgrad; }
  FASTNN_FN void step(V& p, V g, V (&state)[states]) const {
    if (maximize) g = -g;
    if (decays && !decoupled) g = fmadd(weight_decay, p, g);
    const V m = state[0] = fmadd(beta1, state[0], fresh1 * g);
    V v = state[1] = fmadd(beta2, state[1], fresh2 * g * g);
    // A NaN on either side stays, as in PyTorch: vmax returns its second operand there.
    if (amsgrad) v = state[2] = select(state[2] == state[2], vmax(state[2], v), state[2]);
    V update = step_size * (m / fmadd(vsqrt(v), to_root, eps));
    if (decays && decoupled) {
      const V largest(format_of<V>::largest);
      update = fmadd(weight_decay, vmin(largest, vmax(-largest, p)), update);
    }
    p = p - update;
  }
};

}  // namespace optimizer
FASTNN_END
