"""exp, expm1, log1p, the logistic function, tanh and mish over scalars: include/vmath/, operation for operation.

The derivations, and what was tried and rejected, stand in the C++ headers of the same names.
"""

from __future__ import annotations

from fastnn.kernels.jit.intrinsics import (
    Formula,
    Value,
    by_type,
    clamp,
    constant,
    copysign,
    define,
    exp2_integer,
    fmadd,
    fmsub,
    fnmadd,
    formula,
    nearest,
    polynomial,
    polynomial_by_halves,
    round_product,
    round_to_integer,
    scale,
    select,
    vmax,
    vmin,
)

# Beyond these exp is 0 or infinity, also when multiplied by numbers a few hundred in size; expm1 is -1.
define("exp_low", -110.0, -755.0)
define("expm1_low", -18.0, -38.0)
# How far the forms for small arguments reach: up to here 2^n and 1 + 2^n are exact.
define("exp_near", 16.0, 36.0)
define("logistic_negligible", -20.0, -40.0)  # 1 + e^this is 1
define("tanh_saturated", 10.0, 20.0)


@formula
def exp_parts(x: Value) -> tuple[Value, Value, Value]:
    """(t, n, 2^n) with e^x = (1 + t) 2^n, for |x| within a few hundred; 2^n is good as long as that is normal."""
    n, power = round_product(x, constant(x, "log2e"))
    r = fnmadd(n, constant(x, "ln2_lo"), fnmadd(n, constant(x, "ln2_hi"), x))
    square = r * r
    return fmadd(square, polynomial_by_halves(r, square, "exp_tail", False), r), n, power


@formula
def exp_parts_minus(x: Value) -> tuple[Value, Value, Value]:
    """The same for e^-x."""
    n, power = round_product(x, -constant(x, "log2e"))
    s = fmadd(n, constant(x, "ln2_lo"), fmadd(n, constant(x, "ln2_hi"), x))
    square = s * s
    return fmsub(square, polynomial_by_halves(s, square, "exp_tail", True), s), n, power


@formula
def exp_parts_minus_product(a: Value, b: Value, ab: Value) -> tuple[Value, Value, Value]:
    """The same for e^-(a b), whose product enters a sum unrounded; `ab` is its rounded value, for n."""
    n, power = round_product(ab, -constant(a, "log2e"))
    s = fmadd(n, constant(a, "ln2_lo"), fmadd(a, b, n * constant(a, "ln2_hi")))
    square = s * s
    return fmsub(square, polynomial_by_halves(s, square, "exp_tail", True), s), n, power


@formula
def exp_parts_minus_long_product(a: Value, b: Value, ab: Value, rest: Value) -> tuple[Value, Value, Value]:
    """The same for e^-(a (b + rest))."""
    n, power = round_product(ab, -constant(a, "log2e"))
    exact = fmadd(a, b, n * constant(a, "ln2_hi"))
    small = fmadd(a, rest, n * constant(a, "ln2_lo"))
    s = exact + small
    square = s * s
    return fmsub(square, polynomial_by_halves(s, square, "exp_tail", True), small) - exact, n, power


@formula
def exp_parts_corrected(x: Value, c: Value) -> tuple[Value, Value, Value]:
    """The same for e^(x + c), c being the small rounding error of whatever computed x."""
    n, power = round_product(x, constant(x, "log2e"))
    exact, rest = fnmadd(n, constant(x, "ln2_hi"), x), fnmadd(n, constant(x, "ln2_lo"), c)
    r = exact + rest
    square = r * r
    return exact + fmadd(square, polynomial_by_halves(r, square, "exp_tail", False), rest), n, power


@formula
def exp_scaled(t: Value, n: Value) -> tuple[Value, Value]:
    """(e, k) with (1 + t) 2^n = e 2^k and e normal, for n <= 0; k is 0 unless the product is subnormal."""
    V = type(t)
    bounded = vmax(V(2.0) - constant(t, "bias"), n)
    return scale(V(1.0) + t, bounded), n - bounded


@formula
def exp_nonpositive(x: Value) -> tuple[Value, Value]:
    """(e, k) with e^x = e 2^k and e normal, for x <= 0. Applying 2^k last keeps products accurate."""
    t, n, _ = exp_parts(vmax(constant(x, "exp_low"), x))
    return exp_scaled(t, n)


@formula
def exp_of_nonpositive(x: Value) -> Value:
    """e^x for x <= 0."""
    e, k = exp_nonpositive(x)
    return scale(e, k)


@formula
def expm1_of(t: Value, power: Value) -> Value:
    """(1 + t) power - 1."""
    V = type(t)
    return fmadd(power, t, power - V(1.0))


@formula
def expm1(x: Value) -> Value:
    """e^x - 1 for x up to 80; -0 becomes +0."""
    t, _, power = exp_parts(vmax(constant(x, "expm1_low"), x))
    return expm1_of(t, power)


@formula
def _log1p_unit_float32(e: Value) -> Value:
    return fmadd(e, e * polynomial(e, "log1p_tail"), e)


@formula
def _log1p_unit_float64(e: Value) -> Value:
    V = type(e)
    s = e / (V(2.0) + e)
    z = s * s
    return fnmadd(s, fnmadd(z, polynomial_by_halves(z, z * z, "atanh_tail", False), e), e)


@by_type(_log1p_unit_float32, _log1p_unit_float64)
def log1p_unit(e: Value) -> Value:
    """log(1 + e) for e in [0, 1]."""


@formula
def tanh(x: Value) -> Value:
    """By the addition theorem; see include/vmath/tanh.hpp."""
    V = type(x)
    a = vmin(constant(x, "tanh_saturated"), abs(x))
    n, power = round_to_integer(fmadd(a, constant(x, "two_log2e"), V(-0.25)))
    r = fnmadd(n, constant(x, "half_ln2_lo"), fnmadd(n, constant(x, "half_ln2_hi"), a))
    z = r * r
    tau = fmadd(r * z, polynomial(z, "tanh_tail"), r)
    m = fmadd(power + V(1.0), tau, power - V(1.0))
    return copysign(m / (m + fnmadd(V(2.0), tau, V(2.0))), x)


@formula
def near_or_far(near_form: Formula, far_form: Formula, reach: Value, near: bool, x: Value, *params: Value) -> Value:
    """Evaluate near_form(x, ...) where |x| is at most `reach`, else far_form(x, ...); `near`: |x| is known to be.

    Far from 0 exponentials need care that costs half as much again, and activations rarely see such arguments.
    """
    if near:
        return near_form(x, *params)
    return select(abs(x) <= reach, near_form(x, *params), far_form(x, *params))


@formula
def logistic_near(t: Value, power: Value) -> Value:
    """1 + E from the parts of E, for E of a moderate size."""
    V = type(t)
    return fmadd(power, t, V(1.0) + power)


@formula
def logistic_of(t: Value, n: Value) -> tuple[Value, Value]:
    """(d, k) with 1 + E = d 2^-k, from the parts of E, which is at least e^logistic_negligible."""
    V = type(t)
    bounded = vmin(constant(t, "bias") - V(1.0), n)
    power = exp2_integer(bounded)
    sum = V(1.0) + power
    lost = V(1.0) - (sum - power)
    return sum + fmadd(power, t, lost), bounded - n


@formula
def _logistic_far(x: Value) -> tuple[Value, Value]:
    t, n, _ = exp_parts(clamp(-x, constant(x, "logistic_negligible"), -constant(x, "exp_low")))
    return logistic_of(t, n)


@formula
def _sigmoid_near(x: Value) -> Value:
    V = type(x)
    t, _, power = exp_parts_minus(x)
    return V(1.0) / logistic_near(t, power)


@formula
def _sigmoid_far(x: Value) -> Value:
    V = type(x)
    d, k = _logistic_far(x)
    return scale(V(1.0) / d, k)


@formula
def sigmoid(x: Value, near: bool) -> Value:
    """1 / (1 + e^-x)."""
    return near_or_far(_sigmoid_near, _sigmoid_far, constant(x, "exp_near"), near, x)


@formula
def silu_near(x: Value) -> Value:
    t, _, power = exp_parts_minus(x)
    return x / logistic_near(t, power)


@formula
def silu_far(x: Value) -> Value:
    d, k = _logistic_far(x)
    return scale(vmax(constant(x, "exp_low"), x) / d, k)


@formula
def silu_slope(z: Value, error: Value, e: Value, k: Value) -> Value:
    """The derivative of z sigmoid(z) from e^-|z| = e 2^k; `error` is the rounding error of z."""
    V = type(z)
    bound = -constant(z, "exp_low")
    s = (V(1.0) + clamp(z, -bound, bound)) + error
    square = fmadd(e, e + V(2.0), V(1.0))
    negative = z < V(0.0)
    n = select(negative, fmadd(e, e, e * s), fmadd(e, s, V(1.0)))
    return scale(n / square, select(negative, k, V(0.0)))


@formula
def logistic_slope(t: Value, power: Value, v: Value, one: Value) -> Value:
    """(1 + E v) / (1 + E)^2 with E = (1 + t) power unrounded; `one` is 1, or 1 and E times what v is short of."""
    V = type(v)
    small = power * t
    sum = V(1.0) + power
    d = sum + small
    lost = small - (d - sum)
    n = fmadd(power, v, fmadd(small, v, one))
    return n / fmadd(d, d, (d + d) * lost)


@formula
def silu_slope_near(x: Value) -> Value:
    V = type(x)
    t, _, power = exp_parts_minus(x)
    e = fmadd(power, t, power)
    return fmadd(e, V(1.0) + x, V(1.0)) / fmadd(e, e + V(2.0), V(1.0))


@formula
def silu_slope_far(x: Value) -> Value:
    V = type(x)
    e, k = exp_nonpositive(-abs(x))
    return silu_slope(x, V(0.0), e, k)


@formula
def _swish_product(x: Value, beta: Value) -> tuple[Value, Value, Value]:
    """(x, z, error) with z + error = beta x, z bounded, and x finite where z < 0."""
    V = type(x)
    largest, bound = constant(x, "largest"), V(-2.0) * constant(x, "exp_low")
    finite = clamp(x, -largest, largest)
    rounded = beta * finite
    z = clamp(rounded, -bound, bound)
    error = select(z == rounded, fmsub(beta, finite, rounded), V(0.0))
    return select(z < V(0.0), finite, x), z, error


@formula
def swish_near(z: Value, x: Value, beta: Value) -> Value:
    t, _, power = exp_parts_minus_product(x, beta, z)
    return x / logistic_near(t, power)


@formula
def swish_far(z: Value, x: Value, beta: Value) -> Value:
    V = type(x)
    bounded, product, error = _swish_product(x, beta)
    t, n, _ = exp_parts_corrected(vmax(constant(x, "logistic_negligible"), -product), -error)
    d, k = logistic_of(t, n)
    half = nearest(k * V(0.5))  # 2^k may lie beyond one step
    return scale(scale(bounded / d, half), k - half)


@formula
def swish_slope_near(z: Value, x: Value, beta: Value) -> Value:
    V = type(x)
    t, _, power = exp_parts_minus_product(x, beta, z)
    return logistic_slope(t, power, fmadd(x, beta, V(1.0)), V(1.0))


@formula
def swish_slope_far(z: Value, x: Value, beta: Value) -> Value:
    V = type(x)
    _, product, error = _swish_product(x, beta)
    towards_zero = select(product > V(0.0), -error, error)
    t, n, _ = exp_parts_corrected(vmax(constant(x, "exp_low"), -abs(product)), towards_zero)
    e, k = exp_scaled(t, n)
    return silu_slope(product, error, e, k)


@formula
def _mish_denominator(t: Value, power: Value) -> tuple[Value, Value, Value, Value]:
    """(d, rest, g, r) with d + rest = E + 1 - r, r = E g and g = 1 / (1 + 2 E), where E = (1 + t) power."""
    V = type(t)
    one = V(1.0)
    e = fmadd(power, t, power)
    g = one / fmadd(V(2.0), e, one)
    r = e * g
    h = one - r
    sum = power + h
    lost = (h - (sum - power)) + ((one - h) - r)
    small = fmadd(power, t, lost)
    d = sum + small
    return d, small - (d - sum), g, r


@formula
def mish_near(x: Value) -> Value:
    t, _, power = exp_parts_corrected(-x, type(x)(0.0))
    d, _, _, _ = _mish_denominator(t, power)
    return x / d


@formula
def mish_far(x: Value) -> Value:
    V = type(x)
    low = constant(x, "exp_low")
    t, n, _ = exp_parts(clamp(-x, constant(x, "logistic_negligible"), -low))
    bounded = vmin(constant(x, "bias") - V(1.0), n)
    d, _, _, _ = _mish_denominator(t, exp2_integer(bounded))
    return scale(vmax(low, x) / d, bounded - n)


@formula
def mish_slope_near(x: Value) -> Value:
    V = type(x)
    one = V(1.0)
    s = one + x
    t, _, power = exp_parts_minus(x)
    d, rest, g, r = _mish_denominator(t, power)
    n = fmadd(power, s, fmadd(power * t, s, fnmadd(r, fmadd(x, g, one), one)))
    return n / fmadd(d, d, (d + d) * rest)


@formula
def mish_slope_far(x: Value) -> Value:
    V = type(x)
    four, bound = V(4.0), -constant(x, "exp_low")
    e, k = exp_nonpositive(-abs(x))
    s = clamp(x, -bound, bound)
    n = fmadd(fmadd(four, s, V(6.0)), e, four * (s + V(1.0)))
    d = fmadd(V(8.0), e, four)
    return select(x > V(0.0), V(1.0), scale(e * n / d, k))
