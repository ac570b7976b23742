"""Every activation as a formula of scalars: include/activations.hpp again, operation for operation, for Numba.

One block an op, forward directly above backward; the comments on reductions and special cases stand in the C++ blocks.
`backward(dy, saved, ...)` is dy times the derivative. The formulas are Numba functions: bound to a name of your own
(`silu = activations.silu.forward`) they may be called within your own compiled functions, and fuse with them.

A formula with a last argument `near` has a cheaper form where |x|, or what the block calls `argument`, is within the
block's reach; loops choose it for some hundred elements at a time. With `near=False`, the default, every x will do.
"""

from __future__ import annotations

from fastnn.kernels.jit import exp, trig
from fastnn.kernels.jit import gelu_tanh as gelu_tanh_forms
from fastnn.kernels.jit.erfc import gaussian_tail_slope, times_gaussian_tail
from fastnn.kernels.jit.exp import exp_nonpositive, exp_parts_corrected, exp_scaled, expm1, expm1_of, near_or_far
from fastnn.kernels.jit.intrinsics import (
    Value,
    clamp,
    constant,
    copysign,
    fmadd,
    fmsub,
    formula,
    scale,
    select,
    vmax,
    vmin,
)
from fastnn.kernels.jit.registry import activation


@formula
def slope(x: Value, above: Value, below: Value) -> Value:
    """`above` where x > 0, `below` where x <= 0, NaN where x is NaN."""
    V = type(x)
    return select(x > V(0.0), above, select(x <= V(0.0), below, x))


@formula
def inside(x: Value, low: Value, high: Value) -> Value:
    """1 where low < x < high, 0 elsewhere, NaN where x is NaN."""
    V = type(x)
    return select((x > low) & (x < high), V(1.0), select(x == x, V(0.0), x))


@activation
class relu:
    @staticmethod
    def forward(x: Value) -> Value:
        V = type(x)
        return vmax(V(0.0), x)

    @staticmethod
    def backward(dy: Value, x: Value) -> Value:
        V = type(x)
        return dy * slope(x, V(1.0), V(0.0))


@activation
class leaky_relu:
    @staticmethod
    def forward(x: Value, negative_slope: Value) -> Value:
        V = type(x)
        return select(x > V(0.0), x, negative_slope * x)

    @staticmethod
    def backward(dy: Value, x: Value, negative_slope: Value) -> Value:
        V = type(x)
        return dy * slope(x, V(1.0), negative_slope)


@activation
class prelu:
    forward, backward = leaky_relu.forward, leaky_relu.backward

    @staticmethod
    def parameter_gradient(dy: Value, x: Value, alpha: Value) -> Value:
        V = type(x)
        return dy * vmin(V(0.0), x)


@activation
class elu:
    @staticmethod
    def forward(x: Value, alpha: Value) -> Value:
        V = type(x)
        return select(x < V(0.0), alpha * expm1(x), x)

    @staticmethod
    def backward(dy: Value, x: Value, alpha: Value) -> Value:
        V = type(x)
        e, k = exp_nonpositive(vmin(V(0.0), x))
        return dy * select(x > V(0.0), V(1.0), scale(alpha * e, k))


@activation
class parametric_elu:
    forward, backward = elu.forward, elu.backward

    @staticmethod
    def parameter_gradient(dy: Value, x: Value, alpha: Value) -> Value:
        V = type(x)
        return dy * select(x > V(0.0), V(0.0), expm1(x))


@activation
class selu:
    @staticmethod
    def forward(x: Value) -> Value:
        V = type(x)
        e = expm1(x)
        below = fmadd(constant(x, "selu_lambda_alpha_hi"), e, constant(x, "selu_lambda_alpha_lo") * e)
        return select(x < V(0.0), below, constant(x, "selu_lambda_hi") * x)

    @staticmethod
    def backward(dy: Value, x: Value) -> Value:
        V = type(x)
        e, k = exp_nonpositive(vmin(V(0.0), x))
        below = scale(constant(x, "selu_lambda_alpha_hi") * e, k)
        return dy * select(x > V(0.0), constant(x, "selu_lambda_hi"), below)


@formula
def _celu_parts(x: Value, alpha: Value, low: Value) -> tuple[Value, Value, Value]:
    """e^(x / alpha) for x <= 0, the rounding error of the quotient included."""
    V = type(x)
    below = vmin(V(0.0), x)
    q = below / alpha
    p = q * alpha
    error = ((below - p) - fmsub(q, alpha, p)) / alpha
    resolved = (q > low) & (below < -constant(x, "product_tiny"))
    return exp_parts_corrected(vmax(low, q), select(resolved, error, V(0.0)))


@activation
class celu:
    @staticmethod
    def forward(x: Value, alpha: Value) -> Value:
        V = type(x)
        t, _, power = _celu_parts(x, alpha, constant(x, "expm1_low"))
        return select(x < V(0.0), alpha * expm1_of(t, power), x)

    @staticmethod
    def backward(dy: Value, x: Value, alpha: Value) -> Value:
        V = type(x)
        t, n, _ = _celu_parts(x, alpha, constant(x, "exp_low"))
        e, k = exp_scaled(t, n)
        return dy * select(x > V(0.0), V(1.0), scale(e, k))


@activation
class sigmoid:
    @staticmethod
    def forward(x: Value, near: bool = False) -> Value:
        return exp.sigmoid(x, near)

    @staticmethod
    def backward(dy: Value, y: Value) -> Value:
        V = type(y)
        return dy * (y * (V(1.0) - y))


@activation
class tanh:
    @staticmethod
    def forward(x: Value) -> Value:
        return exp.tanh(x)

    @staticmethod
    def backward(dy: Value, y: Value) -> Value:
        V = type(y)
        return dy * ((V(1.0) - y) * (V(1.0) + y))


@activation
class log_sigmoid:
    @staticmethod
    def forward(x: Value) -> Value:
        V = type(x)
        return vmin(V(0.0), x) - exp.log1p_unit(exp.exp_of_nonpositive(-abs(x)))

    @staticmethod
    def backward(dy: Value, x: Value, near: bool = False) -> Value:
        return dy * exp.sigmoid(-x, near)


@activation
class softplus:
    @staticmethod
    def forward(x: Value) -> Value:
        V = type(x)
        return vmax(V(0.0), x) + exp.log1p_unit(exp.exp_of_nonpositive(-abs(x)))

    @staticmethod
    def backward(dy: Value, x: Value, near: bool = False) -> Value:
        return dy * exp.sigmoid(x, near)


@activation
class gelu:
    @staticmethod
    def forward(x: Value) -> Value:
        V = type(x)
        return vmax(V(-0.0), x) - times_gaussian_tail(abs(x))

    @staticmethod
    def backward(dy: Value, x: Value) -> Value:
        V = type(x)
        slope = gaussian_tail_slope(abs(x))
        return dy * select(x > V(0.0), V(1.0) - slope, slope)


@activation
class gelu_tanh:
    reach = "gelu_tanh_near"

    @staticmethod
    def forward(x: Value, near: bool = False) -> Value:
        reach = constant(x, "gelu_tanh_near")
        return near_or_far(gelu_tanh_forms.near, gelu_tanh_forms.far, reach, near, x)

    @staticmethod
    def backward(dy: Value, x: Value, near: bool = False) -> Value:
        reach = constant(x, "gelu_tanh_near")
        return dy * near_or_far(gelu_tanh_forms.slope_near, gelu_tanh_forms.slope_far, reach, near, x)


@activation
class silu:
    @staticmethod
    def forward(x: Value, near: bool = False) -> Value:
        return near_or_far(exp.silu_near, exp.silu_far, constant(x, "exp_near"), near, x)

    @staticmethod
    def backward(dy: Value, x: Value, near: bool = False) -> Value:
        return dy * near_or_far(exp.silu_slope_near, exp.silu_slope_far, constant(x, "exp_near"), near, x)


@activation
class swish:
    @staticmethod
    def argument(x: Value, beta: Value) -> Value:
        return beta * x

    @staticmethod
    def forward(x: Value, beta: Value, near: bool = False) -> Value:
        return near_or_far(exp.swish_near, exp.swish_far, constant(x, "exp_near"), near, beta * x, x, beta)

    @staticmethod
    def backward(dy: Value, x: Value, beta: Value, near: bool = False) -> Value:
        reach = constant(x, "exp_near")
        return dy * near_or_far(exp.swish_slope_near, exp.swish_slope_far, reach, near, beta * x, x, beta)


@activation
class mish:
    @staticmethod
    def forward(x: Value, near: bool = False) -> Value:
        return near_or_far(exp.mish_near, exp.mish_far, constant(x, "exp_near"), near, x)

    @staticmethod
    def backward(dy: Value, x: Value, near: bool = False) -> Value:
        return dy * near_or_far(exp.mish_slope_near, exp.mish_slope_far, constant(x, "exp_near"), near, x)


@activation
class softsign:
    @staticmethod
    def forward(x: Value) -> Value:
        V = type(x)
        a = vmin(constant(x, "largest"), abs(x))
        return copysign(a / (V(1.0) + a), x)

    @staticmethod
    def backward(dy: Value, x: Value) -> Value:
        V = type(x)
        d = V(1.0) + vmin(constant(x, "largest"), abs(x))
        return dy / d / d


@formula
def _relu6_sixth(x: Value) -> Value:
    """relu6(x + 3) / 6, the quotient rounded once."""
    V = type(x)
    z = clamp(x + V(3.0), V(0.0), V(6.0))
    return fmadd(z, constant(x, "sixth_hi"), z * constant(x, "sixth_lo"))


@activation
class hardsigmoid:
    @staticmethod
    def forward(x: Value) -> Value:
        return _relu6_sixth(x)

    @staticmethod
    def backward(dy: Value, x: Value) -> Value:
        V = type(x)
        return dy * (inside(x, V(-3.0), V(3.0)) * constant(x, "sixth_hi"))


@activation
class hardswish:
    @staticmethod
    def forward(x: Value) -> Value:
        V = type(x)
        return vmax(V(-3.0), x) * _relu6_sixth(x)

    @staticmethod
    def backward(dy: Value, x: Value) -> Value:
        V = type(x)
        middle = fmadd(V(2.0), x, V(3.0)) * constant(x, "sixth_hi")
        return dy * select((x > V(-3.0)) & (x < V(3.0)), middle, slope(x, V(1.0), V(0.0)))


@activation
class hardtanh:
    @staticmethod
    def forward(x: Value, min_val: Value, max_val: Value) -> Value:
        return clamp(x, min_val, max_val)

    @staticmethod
    def backward(dy: Value, x: Value, min_val: Value, max_val: Value) -> Value:
        return dy * inside(x, min_val, max_val)


@activation
class relu6:
    @staticmethod
    def forward(x: Value) -> Value:
        V = type(x)
        return clamp(x, V(0.0), V(6.0))

    @staticmethod
    def backward(dy: Value, x: Value) -> Value:
        V = type(x)
        return dy * inside(x, V(0.0), V(6.0))


@activation
class sin:
    reach = "angle_near"

    @staticmethod
    def forward(x: Value, near: bool = False) -> Value:
        return trig.sin(x, near)

    @staticmethod
    def backward(dy: Value, x: Value, near: bool = False) -> Value:
        return dy * trig.cos(x, near)


@activation
class cos:
    reach = "angle_near"

    @staticmethod
    def forward(x: Value, near: bool = False) -> Value:
        return trig.cos(x, near)

    @staticmethod
    def backward(dy: Value, x: Value, near: bool = False) -> Value:
        return dy * -trig.sin(x, near)
