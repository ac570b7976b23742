"""Every activation as a formula of scalars: include/activations.hpp again, operation for operation, for Numba.

One block an op, forward directly above backward; the comments on reductions and special cases stand in the C++ blocks.
`backward(dy, saved, ...)` is dy times the derivative. The formulas are Numba functions: bound to a name of your own
(`silu = activations.silu.forward`) they may be called within your own compiled functions, and fuse with them.

A formula with a last argument `near` has a cheaper form for arguments up to the block's limit, which loops choose block
by block; with `near=False`, the default, it serves every argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import FunctionType
from typing import Any

from fastnn.kernels.jit import exp, trig
from fastnn.kernels.jit.erfc import gaussian_tail_slope, gelu_tanh_tail_slope, times_gaussian_tail, times_gelu_tanh_tail
from fastnn.kernels.jit.exp import exp_nonpositive, exp_reduced, exp_scaled, expm1, expm1_of, near_or_far
from fastnn.kernels.jit.intrinsics import (
    Formula,
    Value,
    clamp,
    constant,
    copysign,
    fmadd,
    fmsub,
    formula,
    nearest,
    scale,
    select,
    vmax,
    vmin,
)


@dataclass(frozen=True, slots=True)
class Activation:
    """The compiled formulas of one op."""

    name: str
    forward: Formula
    backward: Formula
    parameter_gradient: Formula | None
    limit: str  # the constant up to which formulas with an argument `near` have their cheaper form


ACTIVATIONS: dict[str, Activation] = {}


def activation(block: Any) -> Activation:
    """Compile the formulas of a block and enter it into the list."""
    compiled = {}
    for direction in ("forward", "backward", "parameter_gradient"):
        function = getattr(block, direction, None)
        compiled[direction] = formula(function) if isinstance(function, FunctionType) else function
    ACTIVATIONS[block.__name__] = Activation(
        block.__name__, limit=getattr(block, "limit", "exp_near"), **compiled
    )
    return ACTIVATIONS[block.__name__]


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
def _celu_parts(x: Value, alpha: Value, low: Value) -> tuple[Value, Value]:
    """e^(x / alpha) for x <= 0, the rounding error of the quotient included."""
    V = type(x)
    below = vmin(V(0.0), x)
    q = below / alpha
    p = q * alpha
    error = ((below - p) - fmsub(q, alpha, p)) / alpha
    return exp_reduced(vmax(low, q), select(q > low, error, V(0.0)))


@activation
class celu:
    @staticmethod
    def forward(x: Value, alpha: Value) -> Value:
        V = type(x)
        t, n = _celu_parts(x, alpha, constant(x, "expm1_low"))
        return select(x < V(0.0), alpha * expm1_of(t, n), x)

    @staticmethod
    def backward(dy: Value, x: Value, alpha: Value) -> Value:
        V = type(x)
        t, n = _celu_parts(x, alpha, constant(x, "exp_low"))
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
    @staticmethod
    def forward(x: Value) -> Value:
        V = type(x)
        return vmax(V(-0.0), x) - times_gelu_tanh_tail(abs(x))

    @staticmethod
    def backward(dy: Value, x: Value) -> Value:
        V = type(x)
        slope = gelu_tanh_tail_slope(abs(x))
        return dy * select(x > V(0.0), V(1.0) - slope, slope)


@activation
class silu:
    @staticmethod
    def forward(x: Value, near: bool = False) -> Value:
        return near_or_far(exp.silu_near, exp.silu_far, x, near)

    @staticmethod
    def backward(dy: Value, x: Value, near: bool = False) -> Value:
        return dy * near_or_far(exp.silu_slope_near, exp.silu_slope_far, x, near)


@formula
def _swish_product(x: Value, beta: Value) -> tuple[Value, Value, Value]:
    """(x, z, error) with z + error = beta x, z bounded, and x finite where z < 0."""
    V = type(x)
    largest, bound = constant(x, "largest"), V(-2.0) * constant(x, "exp_low")
    finite = clamp(x, -largest, largest)
    rounded = beta * finite
    z = clamp(rounded, -bound, bound)
    return (
        select(z < V(0.0), finite, x),
        z,
        select(z == rounded, fmsub(beta, finite, rounded), V(0.0)),
    )


@activation
class swish:
    @staticmethod
    def forward(x: Value, beta: Value) -> Value:
        V = type(x)
        bounded, z, error = _swish_product(x, beta)
        t, n = exp_reduced(vmax(constant(x, "logistic_negligible"), -z), -error)
        d, k = exp.logistic_of(t, n)
        half = nearest(k * V(0.5))  # 2^k may lie beyond one step
        return scale(scale(bounded / d, half), k - half)

    @staticmethod
    def backward(dy: Value, x: Value, beta: Value) -> Value:
        V = type(x)
        _, z, error = _swish_product(x, beta)
        t, n = exp_reduced(vmax(constant(x, "exp_low"), -abs(z)), select(z > V(0.0), -error, error))
        e, k = exp_scaled(t, n)
        return dy * exp.silu_slope(z, error, e, k)


@activation
class mish:
    @staticmethod
    def forward(x: Value, near: bool = False) -> Value:
        return near_or_far(exp.mish_near, exp.mish_far, x, near)

    @staticmethod
    def backward(dy: Value, x: Value, near: bool = False) -> Value:
        return dy * near_or_far(exp.mish_slope_near, exp.mish_slope_far, x, near)


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
        r = V(1.0) / (V(1.0) + vmin(constant(x, "largest"), abs(x)))
        return dy * r * r


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
    limit = "angle_near"

    @staticmethod
    def forward(x: Value, near: bool = False) -> Value:
        return trig.sin(x, near)

    @staticmethod
    def backward(dy: Value, x: Value, near: bool = False) -> Value:
        return dy * trig.cos(x, near)


@activation
class cos:
    limit = "angle_near"

    @staticmethod
    def forward(x: Value, near: bool = False) -> Value:
        return trig.cos(x, near)

    @staticmethod
    def backward(dy: Value, x: Value, near: bool = False) -> Value:
        return dy * -trig.sin(x, near)
