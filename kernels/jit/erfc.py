"""The tails of GELU, in both its forms: include/vmath/erfc.hpp and gelu_tanh's block, operation for operation.

The Gaussian tail is Q(a) = 0.5 erfc(a / sqrt(2)). The derivations stand in the C++ headers.
"""

from __future__ import annotations

from fastnn.kernels.jit.intrinsics import (
    Value,
    constant,
    define,
    exp2_integer,
    fmadd,
    fnmadd,
    formula,
    nearest_product,
    polynomial,
    polynomial_of_minus,
    vmax,
    vmin,
)

# From here on the tails underflow to 0; nothing overflows before.
define("gaussian_end", 15.0, 39.5)
define("gelu_tanh_end", 11.0, 22.0)
define("lift", 64.0, 512.0)
define("lowered", 2.0**-64, 2.0**-512)


@formula
def _scale_down(x: Value, n: Value) -> Value:
    """The product x 2^n, rounded once, for |x| up to a few thousand and -1.25 * bias <= n <= 0."""
    return x * exp2_integer(n + constant(x, "lift")) * constant(x, "lowered")


@formula
def _decay(x: Value, excess: Value) -> tuple[Value, Value, Value]:
    """(head, tail, n) with e^(excess - x) = (1 + tail - head) 2^n, for x >= 0 and a small excess; head is exact."""
    n = nearest_product(x, -constant(x, "log2e"))
    head = fmadd(n, constant(x, "ln2_hi"), x)
    rest = fnmadd(n, constant(x, "ln2_lo"), excess)
    r = head - rest
    return head, fmadd(r * r, polynomial_of_minus(r, "exp_tail"), rest), n


@formula
def _decay_of_product(a: Value, b: Value) -> tuple[Value, Value, Value]:
    """The same for e^-(a b), the product taken exactly."""
    x = a * b
    return _decay(x, fnmadd(a, b, x))


@formula
def _decayed(w: Value, f: Value, head: Value, tail: Value, n: Value) -> Value:
    """w (1 + f) times the decay."""
    s = tail - head
    m = (tail + fmadd(s, f, f)) - head
    return _scale_down(fmadd(w, m, w), n)


@formula
def _gaussian_variable(a: Value) -> Value:
    """The argument, in [-1, 1), of the fitted shapes, for a in [0, infinity)."""
    c = constant(a, "gaussian_center")
    return (a - c) / (a + c)


@formula
def times_gaussian_tail(magnitude: Value) -> Value:
    """a Q(a) for a >= 0; NaN stays."""
    V = type(magnitude)
    a = vmin(constant(magnitude, "gaussian_end"), magnitude)
    half = a * V(0.5)
    d = V(1.0) + a
    w = half / d
    lost = a - (d - V(1.0))
    f = fmadd(lost + lost, w - V(0.5), polynomial(_gaussian_variable(a), "gaussian_tail_shape"))
    head, tail, n = _decay_of_product(a, half)
    return _decayed(w, f, head, tail, n)


@formula
def gaussian_tail_slope(magnitude: Value) -> Value:
    """Q(a) + a Q'(a) for a >= 0, the derivative of GELU at -a; NaN stays."""
    V = type(magnitude)
    a = vmin(constant(magnitude, "gaussian_end"), magnitude)
    half = a * V(0.5)
    w = (constant(a, "half_gelu_zero_hi") - half) + constant(a, "half_gelu_zero_lo")
    head, tail, n = _decay_of_product(a, half)
    return _decayed(w, polynomial(_gaussian_variable(a), "gelu_slope_shape"), head, tail, n)


@formula
def _gelu_tanh_parts(a: Value) -> tuple[Value, Value, Value, Value]:
    """(z, s, power, n) with z = 2 sqrt(2 / pi) (a + 0.044715 a^3) and e^-z = (1 + s) 2^n; power is 2^n, kept normal."""
    V = type(a)
    linear, cubic = constant(a, "gelu_tanh_linear_hi"), constant(a, "gelu_tanh_cubic_hi")
    square = a * a
    p = fmadd(square, cubic, linear)
    rest = fmadd(square, constant(a, "gelu_tanh_cubic_lo"), constant(a, "gelu_tanh_linear_lo"))
    rest = fnmadd(fnmadd(a, a, square), cubic, rest)
    rest = fmadd(square, cubic, linear - p) + rest
    z = a * p
    head, tail, n = _decay(z, fnmadd(a, rest, fnmadd(a, p, z)))
    return z, tail - head, exp2_integer(vmax(V(2.0) - constant(a, "bias"), n)), n


@formula
def times_gelu_tanh_tail(magnitude: Value) -> Value:
    """a / (1 + e^z) for a >= 0; NaN stays."""
    V = type(magnitude)
    a = vmin(constant(magnitude, "gelu_tanh_end"), magnitude)
    _, s, power, n = _gelu_tanh_parts(a)
    d = fmadd(power, s, V(1.0) + power)
    return _scale_down(fmadd(a, s, a) / d, n)


@formula
def gelu_tanh_tail_slope(magnitude: Value) -> Value:
    """The derivative of tanh-GELU at -a, for a >= 0; NaN stays."""
    V = type(magnitude)
    one = V(1.0)
    a = vmin(constant(magnitude, "gelu_tanh_end"), magnitude)
    z, s, power, n = _gelu_tanh_parts(a)
    exp = fmadd(power, s, power)
    w = (one - z) + fnmadd(a * a * a, V(2.0) * constant(a, "gelu_tanh_cubic_hi"), exp)
    d = fmadd(exp, exp + V(2.0), one)
    return _scale_down(fmadd(w, s, w) / d, n)
