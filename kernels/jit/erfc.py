"""The Gaussian tail Q(a) = 0.5 erfc(a / sqrt(2)), for GELU: include/vmath/erfc.hpp, operation for operation."""

from __future__ import annotations

from fastnn.kernels.jit.intrinsics import (
    Value,
    constant,
    define,
    exp2_integer,
    fmadd,
    fnmadd,
    formula,
    polynomial_by_halves,
    shifted_product,
    vmin,
)

# From here on the tail underflows to 0; nothing overflows before.
define("gaussian_end", 15.0, 39.5)
define("lift", 64.0, 512.0)
define("lowered", 2.0**-64, 2.0**-512)


@formula
def scale_down(x: Value, n: Value) -> Value:
    """The product x 2^n, rounded once, for |x| up to a few thousand and -1.25 * bias <= n <= 0."""
    return x * exp2_integer(n + constant(x, "lift")) * constant(x, "lowered")


@formula
def reduce_decay(x: Value, excess: Value) -> tuple[Value, Value, Value]:
    """(head, rest, shifted) with e^(x - excess) = 2^-n e^(head - rest), for x >= 0; head is exact, n in `shifted`."""
    shifted = shifted_product(x, -constant(x, "log2e"))
    n = shifted - constant(x, "shifter_and_bias")
    return fmadd(n, constant(x, "ln2_hi"), x), fnmadd(n, constant(x, "ln2_lo"), excess), shifted


@formula
def _decay(x: Value, excess: Value) -> tuple[Value, Value, Value]:
    """(head, tail, n) with e^(excess - x) = (1 + tail - head) 2^n, for x >= 0 and a small excess; head is exact."""
    head, rest, shifted = reduce_decay(x, excess)
    n = shifted - constant(x, "shifter_and_bias")
    r = head - rest
    square = r * r
    return head, fmadd(square, polynomial_by_halves(r, square, "exp_tail", True), rest), n


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
    return scale_down(fmadd(w, m, w), n)


@formula
def _gaussian_variable(a: Value) -> tuple[Value, Value]:
    """The argument, in [-1, 1), of the fitted shapes, for a in [0, infinity), and its square."""
    c = constant(a, "gaussian_center")
    t = (a - c) / (a + c)
    return t, t * t


@formula
def times_gaussian_tail(magnitude: Value) -> Value:
    """a Q(a) for a >= 0; NaN stays."""
    V = type(magnitude)
    a = vmin(constant(magnitude, "gaussian_end"), magnitude)
    half = a * V(0.5)
    d = V(1.0) + a
    w = half / d
    lost = a - (d - V(1.0))
    t, square = _gaussian_variable(a)
    f = fmadd(lost + lost, w - V(0.5), polynomial_by_halves(t, square, "gaussian_tail_shape", False))
    head, tail, n = _decay_of_product(a, half)
    return _decayed(w, f, head, tail, n)


@formula
def gaussian_tail_slope(magnitude: Value) -> Value:
    """Q(a) + a Q'(a) for a >= 0, the derivative of GELU at -a; NaN stays."""
    V = type(magnitude)
    a = vmin(constant(magnitude, "gaussian_end"), magnitude)
    half = a * V(0.5)
    w = (constant(a, "half_gelu_zero_hi") - half) + constant(a, "half_gelu_zero_lo")
    t, square = _gaussian_variable(a)
    head, tail, n = _decay_of_product(a, half)
    return _decayed(w, polynomial_by_halves(t, square, "gelu_slope_shape", False), head, tail, n)
