"""The forms of GELU's tanh approximation: include/vmath/gelu_tanh.hpp, operation for operation.

z is 2 sqrt(2 / pi) (x + 0.044715 x^3), and gelu_tanh is x / (1 + e^-z).
"""

from __future__ import annotations

from fastnn.kernels.jit.erfc import reduce_decay, scale_down
from fastnn.kernels.jit.exp import exp_parts_minus_long_product, logistic_near, logistic_slope
from fastnn.kernels.jit.intrinsics import (
    Value,
    constant,
    define,
    exponent_of,
    fmadd,
    fmsub,
    fnmadd,
    formula,
    polynomial_by_halves,
    select,
    vmax,
    vmin,
)

define("gelu_tanh_end", 11.0, 22.0)  # from here on a / (1 + e^z) is 0
define("gelu_tanh_near", 4.7, 4.7)
define("tiny_exponent", 1.5 * 2.0**23 + 2, 1.5 * 2.0**52 + 2)  # that of the smallest normal number but one


@formula
def _argument(magnitude: Value) -> tuple[Value, Value, Value, Value, Value]:
    """(a, z, excess, cubic, rest): z(a) = z - excess, and its cubic part is a (cubic + rest)."""
    linear, factor = constant(magnitude, "gelu_tanh_linear_hi"), constant(magnitude, "gelu_tanh_cubic_hi")
    a = vmin(constant(magnitude, "gelu_tanh_end"), magnitude)
    square = a * a
    p = fmadd(square, factor, linear)
    cubic = p - linear
    lost = fmsub(square, factor, cubic)
    rest = fnmadd(fnmadd(a, a, square), factor, fmadd(square, constant(a, "gelu_tanh_cubic_lo"), lost))
    z = a * p
    return a, z, fnmadd(a, rest + constant(a, "gelu_tanh_linear_lo"), fnmadd(a, p, z)), cubic, rest


@formula
def _exponential(shifted: Value) -> Value:
    """2^n for n <= 0, or some number next to nothing."""
    return exponent_of(vmax(constant(shifted, "tiny_exponent"), shifted))


@formula
def _tail(magnitude: Value) -> Value:
    """a / (1 + e^z) for a >= 0; NaN stays."""
    V = type(magnitude)
    a, z, excess, _, _ = _argument(magnitude)
    head, rest, shifted = reduce_decay(z, excess)
    r = head - rest
    square = r * r
    t = head + fmsub(square, polynomial_by_halves(r, square, "exp_tail", False), rest)
    power = _exponential(shifted)
    sum = V(1.0) + power
    lost = power - (sum - V(1.0))
    return scale_down(a / (sum + (t + lost)), shifted - constant(a, "shifter_and_bias"))


@formula
def _tail_slope(magnitude: Value) -> Value:
    """The derivative of gelu_tanh at -a, for a >= 0; NaN stays."""
    V = type(magnitude)
    one = V(1.0)
    a, z, excess, cubic, cubic_rest = _argument(magnitude)
    head, rest, shifted = reduce_decay(z, excess)
    r = head - rest
    square = r * r
    s = fmadd(square, polynomial_by_halves(r, square, "exp_tail", True), rest) - head
    twice = a + a
    e = (one + s) * _exponential(shifted)
    sum = one + e
    sum_lost = e - (sum - one)
    first = sum - z
    second = fnmadd(twice, cubic, fnmadd(twice, cubic_rest, excess + sum_lost))
    w = first + second
    w_lost = second - (w - first)
    quotient = (w + fmadd(w, s, w_lost)) / fmadd(sum, sum, (sum_lost + sum_lost) * sum)
    return scale_down(quotient, shifted - constant(a, "shifter_and_bias"))


@formula
def _factor(x: Value) -> tuple[Value, Value]:
    """(p, rest) with z = x (p + rest), for |x| up to gelu_tanh_near."""
    linear, cubic = constant(x, "gelu_tanh_linear_hi"), constant(x, "gelu_tanh_cubic_hi")
    square = x * x
    p = fmadd(square, cubic, linear)
    low = fmadd(square, constant(x, "gelu_tanh_cubic_lo"), constant(x, "gelu_tanh_linear_lo"))
    rest = fmadd(fmsub(x, x, square), cubic, low)
    return p, rest + fmadd(square, cubic, linear - p)


@formula
def near(x: Value) -> Value:
    p, rest = _factor(x)
    t, _, power = exp_parts_minus_long_product(x, p, x * p, rest)
    return x / logistic_near(t, power)


@formula
def far(x: Value) -> Value:
    V = type(x)
    return vmax(V(-0.0), x) - _tail(abs(x))


@formula
def slope_near(x: Value) -> Value:
    V = type(x)
    one = V(1.0)
    factor, rest = _factor(x)
    t, _, power = exp_parts_minus_long_product(x, factor, x * factor, rest)
    cubic = factor - constant(x, "gelu_tanh_linear_hi")
    twice = cubic + cubic
    p = factor + twice
    p_lost = fmadd(V(3.0), rest, (factor - p) + twice) - V(2.0) * constant(x, "gelu_tanh_linear_lo")
    product = x * p
    v = one + product
    back = v - product
    v_lost = fmadd(x, p_lost, fmsub(x, p, product)) + ((one - back) + (product - (v - back)))
    return logistic_slope(t, power, v, fmadd(fmadd(power, t, power), v_lost, one))


@formula
def slope_far(x: Value) -> Value:
    V = type(x)
    slope = _tail_slope(abs(x))
    return select(x > V(0.0), V(1.0) - slope, slope)
