"""sin and cos over the whole range of float32 and float64: include/vmath/trig.hpp, operation for operation."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels.jit import coefficients
from fastnn.kernels.jit.intrinsics import (
    Value,
    bits,
    constant,
    define,
    flip_sign,
    fmadd,
    fnmadd,
    formula,
    from_bits,
    polynomial,
    quadrant_code,
    select,
)

# Up to here n = nearest(x 2 / pi) is small enough for the products of n with the pieces of pi / 2 to be exact.
define("angle_near", 12800.0, 1647000.0)

Unsigned = Any
_WORDS = np.array(coefficients.two_over_pi_words, np.uint64)
_LEADING_ZEROS = 64  # bits of _WORDS before those of 2 / pi
_U64 = np.uint64
_LOW = np.uint64(0xFFFFFFFF)


@formula
def _moderate_angle(x: Value) -> tuple[Value, Value, Value]:
    """(hi, lo, shifted) with x = n pi / 2 + hi - lo for |x| up to angle_near; n is in the low bits of shifted."""
    shifter = constant(x, "shifter")
    shifted = fmadd(x, constant(x, "two_over_pi"), shifter)
    n = shifted - shifter
    r = fnmadd(n, constant(x, "half_pi_1") + constant(x, "half_pi_2"), x)
    hi = fnmadd(n, constant(x, "half_pi_3"), r)
    lo = fmadd(n, constant(x, "half_pi_4"), fmadd(n, constant(x, "half_pi_3"), hi - r))
    return hi, lo, shifted


@formula
def _window(first: int, word: int) -> Unsigned:
    """The 32 bits of 2 / pi that start `word` words after bit `first`."""
    index, shift = (first >> 5) + word, _U64(32 - (first & 31))
    return (((_WORDS[index] << _U64(32)) | _WORDS[index + 1]) >> shift) & _LOW


@formula
def _leading_half(x: float) -> float:
    """`x` with the lower half of its significand cleared: products of two such are exact."""
    return from_bits(bits(x) & ~_U64((1 << 27) - 1))


@formula
def _product_error(a: float, b: float, p: float) -> float:
    """The difference a b - p for p = a * b (Dekker 1971)."""
    ah, bh = _leading_half(a), _leading_half(b)
    al, bl = a - ah, b - bh
    return ((ah * bh - p) + ah * bl + al * bh) + al * bl


@formula
def _any_angle(x: float) -> tuple[float, float, float]:
    """The same as _moderate_angle for every |x| >= 1 (Payne and Hanek 1983), in whole numbers: rare, and long."""
    b = bits(x)
    mantissa, exponent = b & _U64((1 << 52) - 1), (b >> _U64(52)) & _U64(0x7FF)
    if exponent == _U64(0x7FF):
        return x - x, x - x, x - x
    mantissa |= _U64(1 << 52)
    first = np.int64(exponent) - 1023 - 52 - 2 + _LEADING_ZEROS
    w0, w1, w2 = _window(first, 0), _window(first, 1), _window(first, 2)
    w3, w4, w5 = _window(first, 3), _window(first, 4), _window(first, 5)

    # The low 192 bits of the product with the mantissa, in 32-bit words, p0 the highest
    shift, m = _U64(32), mantissa & _LOW
    c = m * w4 + ((m * w5) >> shift)
    p4 = c & _LOW
    c = m * w3 + (c >> shift)
    p3 = c & _LOW
    c = m * w2 + (c >> shift)
    p2 = c & _LOW
    c = m * w1 + (c >> shift)
    p1 = c & _LOW
    c = m * w0 + (c >> shift)
    p0 = c & _LOW
    m = mantissa >> shift
    c = m * w5 + p4
    p4 = c & _LOW
    c = m * w4 + p3 + (c >> shift)
    p3 = c & _LOW
    c = m * w3 + p2 + (c >> shift)
    p2 = c & _LOW
    c = m * w2 + p1 + (c >> shift)
    p1 = c & _LOW
    c = m * w1 + p0 + (c >> shift)
    p0 = c & _LOW

    quadrant = p0 >> _U64(30)
    high = (p0 << _U64(34)) | (p1 << _U64(2)) | (p2 >> _U64(30))
    low = (p2 << _U64(34)) | (p3 << _U64(2)) | (p4 >> _U64(30))
    upper_half = (high >> _U64(63)) != _U64(0)  # nearest, not floor: the fraction becomes negative
    if upper_half:
        quadrant += _U64(1)
        low = ~low + _U64(1)
        high = ~high
        if low == _U64(0):
            high += _U64(1)
    negative = (b >> _U64(63)) != _U64(0)

    # The fraction in three exact pieces, summed up to top + rest; times pi / 2
    a1 = np.float64(high >> _U64(21)) * 2.0**-43
    a2 = np.float64(((high & _U64(0x1FFFFF)) << _U64(22)) | (low >> _U64(42))) * 2.0**-86
    a3 = np.float64(low & _U64((1 << 42) - 1)) * 2.0**-128
    top = a1 + a2
    rest = (a1 - top) + a2 + a3
    half_pi = constant(x, "half_pi_hi")
    p = top * half_pi
    error = _product_error(top, half_pi, p) + (top * constant(x, "half_pi_lo") + rest * half_pi)
    r = p + error
    excess = (r - p) - error
    if upper_half != negative:
        r, excess = -r, -excess
    if negative:
        quadrant = ~quadrant + _U64(1)
    return r, excess, np.float64(quadrant & _U64(3))


@formula
def _angle(x: Value, near: bool) -> tuple[Value, Value, Value]:
    """The reduced angle of any x; `near` says that |x| is known to be at most angle_near."""
    V = type(x)
    if near or not abs(x) > constant(x, "angle_near"):
        return _moderate_angle(x)
    wide_hi, wide_lo, quadrant = _any_angle(np.float64(x))
    hi = V(wide_hi)
    lo = V((np.float64(hi) - wide_hi) + wide_lo)
    return hi, lo, constant(x, "shifter") + V(quadrant)


@formula
def _sine(hi: Value, lo: Value, code: Value) -> Value:
    """sin(n pi / 2 + hi - lo); odd n takes the cosine, and n's second bit is the sign."""
    V = type(hi)
    z = hi * hi
    cube = hi * z
    sine = hi - fmadd(cube, polynomial(z, "sin_tail"), lo)
    cosine = fmadd(hi, fmadd(hi, V(-0.5), fmadd(cube, polynomial(z, "cos_tail"), lo)), V(1.0))
    return flip_sign(select(code != V(0.0), cosine, sine), code)


@formula
def sin(x: Value, near: bool) -> Value:
    """sin(x)."""
    hi, lo, shifted = _angle(x, near)
    return _sine(hi, lo, quadrant_code(shifted, 0))


@formula
def cos(x: Value, near: bool) -> Value:
    """cos(x)."""
    hi, lo, shifted = _angle(x, near)
    return _sine(hi, lo, quadrant_code(shifted, 1))
