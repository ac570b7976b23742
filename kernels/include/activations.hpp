// Every elementwise activation: forward directly above backward, over the value type V of simd.hpp.
//
// backward(dy, saved, ...) is dy times the derivative in IEEE arithmetic; `saved` is what the op's row in
// fastnn/table/activations.py says. NaN in any operand gives NaN. FASTNN_ACTIVATION(name) enters a block into the list
// that the kernels are made from.
#pragma once
#include "vmath.hpp"

FASTNN_BEGIN
namespace activation {

// The list: at<0>, at<1>, ... name the blocks in the order in which they stand. Each entry declares one more overload
// of `listed`, and the call picks the latest, whose parameter is the most derived; NVRTC has no __COUNTER__.
template <int i>
struct at;
template <int i>
struct place : place<i - 1> {
  static constexpr int index = i;
};
template <>
struct place<0> {
  static constexpr int index = 0;
};
FASTNN_HOST_DEVICE place<0> listed(place<0>);
#define FASTNN_LISTED decltype(listed(place<200>()))::index
#define FASTNN_ACTIVATION(op)           \
  template <>                           \
  struct at<FASTNN_LISTED> {            \
    using type = op;                    \
    static constexpr char name[] = #op; \
  };                                    \
  FASTNN_HOST_DEVICE place<FASTNN_LISTED + 1> listed(place<FASTNN_LISTED + 1>);

// The slope of a piecewise linear op: `above` where x > 0, `below` where x <= 0, NaN where x is NaN.
template <class V>
FASTNN_FN V slope(V x, V above, V below) {
  return select(x > V(0.0f), above, select(x <= V(0.0f), below, x));
}
// 1 where low < x < high, 0 elsewhere, NaN where x is NaN.
template <class V>
FASTNN_FN V inside(V x, V low, V high) {
  return select((x > low) & (x < high), V(1.0f), select(x == x, V(0.0f), x));
}

// relu: y = max(x, 0)
struct relu {
  template <class V>
  static FASTNN_FN V forward(V x) {
    return vmax(V(0.0f), x);
  }
  template <class V>
  static FASTNN_FN V backward(V dy, V x) {
    return dy * slope(x, V(1.0f), V(0.0f));
  }
};
FASTNN_ACTIVATION(relu)

// leaky_relu: y = x for x > 0, negative_slope x otherwise. max(x, slope x) would be wrong for slopes above 1.
struct leaky_relu {
  template <class V>
  static FASTNN_FN V forward(V x, V negative_slope) {
    return select(x > V(0.0f), x, negative_slope * x);
  }
  template <class V>
  static FASTNN_FN V backward(V dy, V x, V negative_slope) {
    return dy * slope(x, V(1.0f), negative_slope);
  }
};
FASTNN_ACTIVATION(leaky_relu)

// prelu: leaky_relu with a learned slope, whose gradient is dy min(x, 0).
struct prelu : leaky_relu {
  template <class V>
  static FASTNN_FN V parameter_gradient(V dy, V x, V) {
    return dy * vmin(V(0.0f), x);
  }
};
FASTNN_ACTIVATION(prelu)

// elu: y = x for x > 0, alpha (e^x - 1) otherwise. Backward starts from x: y + alpha would cancel where y is near
// -alpha.
struct elu {
  template <class V>
  static FASTNN_FN V forward(V x, V alpha) {
    return select(x < V(0.0f), alpha * expm1(x), x);
  }
  template <class V>
  static FASTNN_FN V backward(V dy, V x, V alpha) {
    const exp_scaled<V> e = exp_nonpositive(vmin(V(0.0f), x));
    return dy * select(x > V(0.0f), V(1.0f), scale(alpha * e.e, e.k));
  }
};
FASTNN_ACTIVATION(elu)

// parametric_elu: elu with a learned alpha, whose gradient is dy (e^x - 1) where x <= 0.
struct parametric_elu : elu {
  template <class V>
  static FASTNN_FN V parameter_gradient(V dy, V x, V) {
    return dy * select(x > V(0.0f), V(0.0f), expm1(x));
  }
};
FASTNN_ACTIVATION(parametric_elu)

// selu: y = lambda x for x > 0, lambda alpha (e^x - 1) otherwise. lambda alpha comes in two pieces: rounding it to one
// number costs up to half an ULP that the product with expm1 cannot afford.
struct selu {
  template <class V>
  static FASTNN_FN V forward(V x) {
    using C = constants<scalar_t<V>>;
    const V e = expm1(x);
    const V below = fmadd(V(C::selu_lambda_alpha_hi), e, V(C::selu_lambda_alpha_lo) * e);
    return select(x < V(0.0f), below, V(C::selu_lambda_hi) * x);
  }
  template <class V>
  static FASTNN_FN V backward(V dy, V x) {
    using C = constants<scalar_t<V>>;
    const exp_scaled<V> e = exp_nonpositive(vmin(V(0.0f), x));
    const V below = scale(V(C::selu_lambda_alpha_hi) * e.e, e.k);
    return dy * select(x > V(0.0f), V(C::selu_lambda_hi), below);
  }
};
FASTNN_ACTIVATION(selu)

// celu: y = x for x > 0, alpha (e^(x / alpha) - 1) otherwise: elu with a derivative of 1 on both sides of 0. What the
// quotient's rounding leaves out goes into the reduction of exp, which would magnify it by x / alpha.
struct celu {
  template <class V>
  static FASTNN_FN exp_parts<V> quotient(V x, V alpha, scalar_t<V> low) {
    const V below = vmin(V(0.0f), x), q = below / alpha, p = q * alpha;
    const V error = ((below - p) - product_error(q, alpha, p)) / alpha;
    const V tiny(format_of<V>::smallest_normal * format_of<V>::shifter *
                 format_of<V>::shifter);  // product_error would underflow
    return exp_reduced(vmax(V(low), q), select((q > V(low)) & (below < -tiny), error, V(0.0f)));
  }
  template <class V>
  static FASTNN_FN V forward(V x, V alpha) {
    return select(x < V(0.0f), alpha * expm1_of(quotient(x, alpha, exp_range_of<V>::expm1_low)), x);
  }
  template <class V>
  static FASTNN_FN V backward(V dy, V x, V alpha) {
    const exp_scaled<V> e = exp_nonpositive(quotient(x, alpha, exp_range_of<V>::low));
    return dy * select(x > V(0.0f), V(1.0f), scale(e.e, e.k));
  }
};
FASTNN_ACTIVATION(celu)

// sigmoid: y = 1 / (1 + e^-x). Backward from y: dy y (1 - y).
struct sigmoid {
  template <class V>
  static FASTNN_FN V forward(V x) {
    return near_or_far<sigmoid_form>(x);
  }
  template <class V>
  static FASTNN_FN V backward(V dy, V y) {
    return dy * (y * (V(1.0f) - y));
  }
};
FASTNN_ACTIVATION(sigmoid)

// tanh: see vmath/tanh.hpp. Backward from y: dy (1 - y) (1 + y), whose factors are exact where they are small.
struct tanh {
  template <class V>
  static FASTNN_FN V forward(V x) {
    return fastnn::tanh(x);
  }
  template <class V>
  static FASTNN_FN V backward(V dy, V y) {
    return dy * ((V(1.0f) - y) * (V(1.0f) + y));
  }
};
FASTNN_ACTIVATION(tanh)

// log_sigmoid: y = min(x, 0) - log(1 + e^-|x|). Backward: dy sigmoid(-x).
struct log_sigmoid {
  template <class V>
  static FASTNN_FN V forward(V x) {
    return vmin(V(0.0f), x) - log1p_unit(exp_of_nonpositive(-vabs(x)));
  }
  template <class V>
  static FASTNN_FN V backward(V dy, V x) {
    return dy * near_or_far<sigmoid_form>(-x);
  }
};
FASTNN_ACTIVATION(log_sigmoid)

// softplus: y = log(1 + e^x) = max(x, 0) + log(1 + e^-|x|). Backward: dy sigmoid(x).
struct softplus {
  template <class V>
  static FASTNN_FN V forward(V x) {
    return vmax(V(0.0f), x) + log1p_unit(exp_of_nonpositive(-vabs(x)));
  }
  template <class V>
  static FASTNN_FN V backward(V dy, V x) {
    return dy * near_or_far<sigmoid_form>(x);
  }
};
FASTNN_ACTIVATION(softplus)

// gelu: y = x Phi(x) = max(x, 0) - |x| Q(|x|), with the Gaussian tail Q(a) = 1 - Phi(a) of vmath/erfc.hpp. Backward:
// with the slope D(a) = d(a Q)/da, Phi(x) + x phi(x) is D(-x) for x <= 0 and 1 - D(x) for x > 0.
struct gelu {
  template <class V>
  static FASTNN_FN V forward(V x) {
    return vmax(V(-0.0f), x) - times_gaussian_tail(vabs(x));
  }
  template <class V>
  static FASTNN_FN V backward(V dy, V x) {
    const V slope = gaussian_tail_slope(vabs(x));
    return dy * select(x > V(0.0f), V(1.0f) - slope, slope);
  }
};
FASTNN_ACTIVATION(gelu)

// gelu_tanh: y = x sigmoid(z) with z = 2 sqrt(2 / pi) (x + 0.044715 x^3), which e^z demands to twice the precision: see
// vmath/gelu_tanh.hpp.
struct gelu_tanh {
  template <class V>
  static FASTNN_FN V forward(V x) {
    return near_or_far<gelu_tanh_form>(x);
  }
  template <class V>
  static FASTNN_FN V backward(V dy, V x) {
    return dy * near_or_far<gelu_tanh_slope_form>(x);
  }
};
FASTNN_ACTIVATION(gelu_tanh)

// silu: y = x sigmoid(x)
struct silu {
  template <class V>
  static FASTNN_FN V forward(V x) {
    return near_or_far<silu_form>(x);
  }
  template <class V>
  static FASTNN_FN V backward(V dy, V x) {
    return dy * near_or_far<silu_slope_form>(x);
  }
};
FASTNN_ACTIVATION(silu)

// swish: y = x sigmoid(z), z = beta x. Rounding z would cost e^-z up to |z| / 2 ULP; the forms in vmath/logistic.hpp
// see to that.
struct swish {
  template <class V>
  static FASTNN_FN V forward(V x, V beta) {
    return near_or_far<swish_form>(beta * x, x, beta);
  }
  template <class V>
  static FASTNN_FN V backward(V dy, V x, V beta) {
    return dy * near_or_far<swish_slope_form>(beta * x, x, beta);
  }
};
FASTNN_ACTIVATION(swish)

// mish: y = x tanh(softplus(x)) = x n / (n + 2) with n = e (e + 2), e = e^x: no tanh, no log. The formulas stand in
// vmath/mish.hpp.
struct mish {
  template <class V>
  static FASTNN_FN V forward(V x) {
    return near_or_far<mish_form>(x);
  }
  template <class V>
  static FASTNN_FN V backward(V dy, V x) {
    return dy * near_or_far<mish_slope_form>(x);
  }
};
FASTNN_ACTIVATION(mish)

// softsign: y = x / (1 + |x|); |x| is bounded so that infinity gives 1 and not inf / inf.
struct softsign {
  template <class V>
  static FASTNN_FN V forward(V x) {
    const V a = vmin(V(format_of<V>::largest), vabs(x));
    return copysign(a / (V(1.0f) + a), x);
  }
  template <class V>
  static FASTNN_FN V backward(V dy, V x) {
    const V d = V(1.0f) + vmin(V(format_of<V>::largest), vabs(x));
    return dy / d / d;
  }
};
FASTNN_ACTIVATION(softsign)

// hardsigmoid: y = min(max(x + 3, 0), 6) / 6, the division as a product with 1/6 in two pieces where that rounds once.
struct hardsigmoid {
  template <class V>
  static FASTNN_FN V sixth(V x) {
    using C = constants<scalar_t<V>>;
    if constexpr (traits<V>::fused)
      return fmadd(x, V(C::sixth_hi), x * V(C::sixth_lo));
    else
      return x / V(6.0f);
  }
  template <class V>
  static FASTNN_FN V forward(V x) {
    return sixth(clamp(x + V(3.0f), V(0.0f), V(6.0f)));
  }
  template <class V>
  static FASTNN_FN V backward(V dy, V x) {
    return dy * (inside(x, V(-3.0f), V(3.0f)) * V(constants<scalar_t<V>>::sixth_hi));
  }
};
FASTNN_ACTIVATION(hardsigmoid)

// hardswish: y = x hardsigmoid(x). The factor x is bounded below so that -inf gives -0; dividing by 6 first avoids an
// overflow.
struct hardswish {
  template <class V>
  static FASTNN_FN V forward(V x) {
    return vmax(V(-3.0f), x) * hardsigmoid::forward(x);
  }
  template <class V>
  static FASTNN_FN V backward(V dy, V x) {
    const V middle = fmadd(V(2.0f), x, V(3.0f)) * V(constants<scalar_t<V>>::sixth_hi);
    return dy * select((x > V(-3.0f)) & (x < V(3.0f)), middle, slope(x, V(1.0f), V(0.0f)));
  }
};
FASTNN_ACTIVATION(hardswish)

// hardtanh: y = min(max(x, min_val), max_val)
struct hardtanh {
  template <class V>
  static FASTNN_FN V forward(V x, V min_val, V max_val) {
    return clamp(x, min_val, max_val);
  }
  template <class V>
  static FASTNN_FN V backward(V dy, V x, V min_val, V max_val) {
    return dy * inside(x, min_val, max_val);
  }
};
FASTNN_ACTIVATION(hardtanh)

// relu6: y = min(max(x, 0), 6)
struct relu6 {
  template <class V>
  static FASTNN_FN V forward(V x) {
    return clamp(x, V(0.0f), V(6.0f));
  }
  template <class V>
  static FASTNN_FN V backward(V dy, V x) {
    return dy * inside(x, V(0.0f), V(6.0f));
  }
};
FASTNN_ACTIVATION(relu6)

// sin, cos: over the whole range, see vmath/trig.hpp. Infinities give NaN.
struct sin {
  template <class V>
  static FASTNN_FN V forward(V x) {
    return fastnn::sin(x);
  }
  template <class V>
  static FASTNN_FN V backward(V dy, V x) {
    return dy * fastnn::cos(x);
  }
};
FASTNN_ACTIVATION(sin)

struct cos {
  template <class V>
  static FASTNN_FN V forward(V x) {
    return fastnn::cos(x);
  }
  template <class V>
  static FASTNN_FN V backward(V dy, V x) {
    return dy * -fastnn::sin(x);
  }
};
FASTNN_ACTIVATION(cos)

constexpr int count = FASTNN_LISTED;

}  // namespace activation
FASTNN_END
