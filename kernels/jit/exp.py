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
    nearest_product,
    polynomial,
    polynomial_of_minus,
    scale,
    select,
    vmax,
    vmin,
)

# Beyond these exp is 0 or infinity, also when multiplied by numbers a few hundred in size; expm1 is -1.
define("exp_low", -110.0, -755.0)
define("expm1_low", -18.0, -38.0)
# Up to here 2^n and 1 + 2^n are exact.
define("exp_near", 16.0, 36.0)
define("logistic_negligible", -20.0, -40.0)  # 1 + e^this is 1
define("tanh_saturated", 10.0, 20.0)


@formula
def exp_reduced(x: Value, c: Value) -> tuple[Value, Value]:
    """(t, n) with e^(x + c) = (1 + t) 2^n; c is the small rounding error of whatever computed x."""
    n = nearest_product(x, constant(x, "log2e"))
    exact, rest = fnmadd(n, constant(x, "ln2_hi"), x), fnmadd(n, constant(x, "ln2_lo"), c)
    r = exact + rest
    lost = rest - (r - exact)
    return r + fmadd(r * r, polynomial(r, "exp_tail"), lost), n


@formula
def exp_parts(x: Value) -> tuple[Value, Value]:
    """(t, n) with e^x = (1 + t) 2^n, for |x| within a few hundred."""
    n = nearest_product(x, constant(x, "log2e"))
    r = fnmadd(n, constant(x, "ln2_lo"), fnmadd(n, constant(x, "ln2_hi"), x))
    return fmadd(r * r, polynomial(r, "exp_tail"), r), n


@formula
def exp_parts_minus(x: Value) -> tuple[Value, Value]:
    """The same for e^-x."""
    n = nearest_product(x, -constant(x, "log2e"))
    s = fmadd(n, constant(x, "ln2_lo"), fmadd(n, constant(x, "ln2_hi"), x))
    return fmsub(s * s, polynomial_of_minus(s, "exp_tail"), s), n


@formula
def exp_scaled(t: Value, n: Value) -> tuple[Value, Value]:
    """(e, k) with (1 + t) 2^n = e 2^k and e normal, for n <= 0; k is 0 unless the product is subnormal."""
    V = type(t)
    bounded = vmax(V(2.0) - constant(t, "bias"), n)
    return scale(V(1.0) + t, bounded), n - bounded


@formula
def exp_nonpositive(x: Value) -> tuple[Value, Value]:
    """(e, k) with e^x = e 2^k and e normal, for x <= 0. Applying 2^k last keeps products accurate."""
    t, n = exp_parts(vmax(constant(x, "exp_low"), x))
    return exp_scaled(t, n)


@formula
def exp_of_nonpositive(x: Value) -> Value:
    """e^x for x <= 0."""
    e, k = exp_nonpositive(x)
    return scale(e, k)


@formula
def exp_of(t: Value, n: Value) -> Value:
    """2^n (1 + t) where 2^n and the result are normal."""
    power = exp2_integer(n)
    return fmadd(power, t, power)


@formula
def expm1_of(t: Value, n: Value) -> Value:
    """2^n (1 + t) - 1."""
    V = type(t)
    power = exp2_integer(n)
    return fmadd(power, t, power - V(1.0))


@formula
def expm1(x: Value) -> Value:
    """e^x - 1 for x up to 80; -0 becomes +0."""
    t, n = exp_parts(vmax(constant(x, "expm1_low"), x))
    return expm1_of(t, n)


@formula
def _log1p_unit_float32(e: Value) -> Value:
    return fmadd(e, e * polynomial(e, "log1p_tail"), e)


@formula
def _log1p_unit_float64(e: Value) -> Value:
    V = type(e)
    s = e / (V(2.0) + e)
    z = s * s
    return fnmadd(s, fnmadd(z, polynomial(z, "atanh_tail"), e), e)


@by_type(_log1p_unit_float32, _log1p_unit_float64)
def log1p_unit(e: Value) -> Value:
    """log(1 + e) for e in [0, 1]."""


@formula
def tanh(x: Value) -> Value:
    """By the addition theorem; see include/vmath/tanh.hpp."""
    V = type(x)
    a = vmin(constant(x, "tanh_saturated"), abs(x))
    n = nearest(fmadd(a, constant(x, "two_log2e"), V(-0.25)))
    r = fnmadd(n, constant(x, "half_ln2_lo"), fnmadd(n, constant(x, "half_ln2_hi"), a))
    z = r * r
    tau = fmadd(r * z, polynomial(z, "tanh_tail"), r)
    power = exp2_integer(n)
    m = fmadd(power + V(1.0), tau, power - V(1.0))
    return copysign(m / (m + fnmadd(V(2.0), tau, V(2.0))), x)


@formula
def near_or_far(near_form: Formula, far_form: Formula, x: Value, near: bool) -> Value:
    """Evaluate near_form(x) where |x| is at most exp_near, far_form(x) elsewhere; `near` says that |x| is known to be.

    Far from 0 exponentials need care that costs half as much again, and activations rarely see such arguments.
    """
    if near:
        return near_form(x)
    return select(abs(x) <= constant(x, "exp_near"), near_form(x), far_form(x))


@formula
def _logistic_near(x: Value) -> Value:
    V = type(x)
    t, n = exp_parts_minus(x)
    power = exp2_integer(n)
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
    t, n = exp_parts(clamp(-x, constant(x, "logistic_negligible"), -constant(x, "exp_low")))
    return logistic_of(t, n)


@formula
def sigmoid_near(x: Value) -> Value:
    V = type(x)
    return V(1.0) / _logistic_near(x)


@formula
def sigmoid_far(x: Value) -> Value:
    V = type(x)
    d, k = _logistic_far(x)
    return scale(V(1.0) / d, k)


@formula
def sigmoid(x: Value, near: bool) -> Value:
    """1 / (1 + e^-x)."""
    return near_or_far(sigmoid_near, sigmoid_far, x, near)


@formula
def silu_near(x: Value) -> Value:
    return x / _logistic_near(x)


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
def silu_slope_near(x: Value) -> Value:
    V = type(x)
    t, n = exp_parts_minus(x)
    e = exp_of(t, n)
    return fmadd(e, V(1.0) + x, V(1.0)) / fmadd(e, e + V(2.0), V(1.0))


@formula
def silu_slope_far(x: Value) -> Value:
    V = type(x)
    e, k = exp_nonpositive(-abs(x))
    return silu_slope(x, V(0.0), e, k)


@formula
def _mish_denominator(t: Value, n: Value) -> Value:
    """E + 1/2 + 1 / (2 + 4 E) from the parts of E."""
    V = type(t)
    half, power = V(0.5), exp2_integer(n)
    q = half / fmadd(V(2.0), fmadd(power, t, power), V(1.0))
    h = half + q
    sum = power + h
    lost = (h - (sum - power)) + (q - (h - half))
    return sum + fmadd(power, t, lost)


@formula
def mish_near(x: Value) -> Value:
    t, n = exp_parts_minus(x)
    return x / _mish_denominator(t, n)


@formula
def mish_far(x: Value) -> Value:
    V = type(x)
    low = constant(x, "exp_low")
    t, n = exp_parts(clamp(-x, constant(x, "logistic_negligible"), -low))
    bounded = vmin(constant(x, "bias") - V(1.0), n)
    return scale(vmax(low, x) / _mish_denominator(t, bounded), bounded - n)


@formula
def mish_slope_near(x: Value) -> Value:
    V = type(x)
    one, four, eight = V(1.0), V(4.0), V(8.0)
    t, k = exp_parts(-abs(x))
    w = exp_of(t, k)
    negative = x < V(0.0)
    linear, constant_term = fmadd(four, x, V(6.0)), four * (x + one)
    n = fmadd(select(negative, one, constant_term), w, select(negative, four, linear))
    n = fmadd(n, w, select(negative, linear, four))
    n = fmadd(n, w, select(negative, constant_term, one))
    n = select(negative, n * w, n)
    d = fmadd(select(negative, one, four), w, select(negative, four, eight))
    d = fmadd(d, w, eight)
    d = fmadd(d, w, select(negative, eight, four))
    d = fmadd(d, w, select(negative, four, one))
    return n / d


@formula
def mish_slope_far(x: Value) -> Value:
    V = type(x)
    four, bound = V(4.0), -constant(x, "exp_low")
    e, k = exp_nonpositive(-abs(x))
    s = clamp(x, -bound, bound)
    n = fmadd(fmadd(four, s, V(6.0)), e, four * (s + V(1.0)))
    d = fmadd(V(8.0), e, four)
    return select(x > V(0.0), V(1.0), scale(e * n / d, k))
