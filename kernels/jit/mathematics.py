"""exp, expm1, log, log1p and tanh for users' own formulas: for any x, as vector code, in float32 and float64.

What Numba makes of `math.exp` and the like are calls of the C library, element by element, which no loop can vectorise.
`with_fast_math` gives a function of a user's these instead. Errors are within 2 ULP; NaN stays NaN.
"""

from __future__ import annotations

import math
import types as python_types
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types
from numba.core import errors
from numba.extending import overload

from fastnn.kernels.jit import exp as exps
from fastnn.kernels.jit.intrinsics import (
    Value,
    bits,
    by_type,
    clamp,
    constant,
    define,
    fmadd,
    formula,
    from_bits,
    nearest,
    scale,
    select,
    vmin,
)

define("exp_high", 89.0, 710.0)  # e^this is infinite
define("expm1_high", 20.0, 40.0)  # from here on e^x - 1 is e^x
define("smallest_normal", 2.0**-126, 2.0**-1022)
define("lifted", 2.0**32, 2.0**64)  # makes normal numbers of subnormal ones
define("lifted_by", 32.0, 64.0)


@formula
def _exp(x: Value) -> Value:
    V = type(x)
    t, n, _ = exps.exp_parts(clamp(x, constant(x, "exp_low"), constant(x, "exp_high")))
    half = nearest(n * V(0.5))  # 2^n may be beyond the largest number, or subnormal
    rest = n - half
    quarter = nearest(rest * V(0.5))
    return scale(scale(scale(V(1.0) + t, half), quarter), rest - quarter)


@formula
def _expm1(x: Value) -> Value:
    V = type(x)
    high = constant(x, "expm1_high")
    moderate = exps.expm1(vmin(high, x))
    return select(x > high, _exp(x), select(x == V(0.0), x, select(x == x, moderate, x)))


@formula
def _split_float32(x: Value) -> tuple[Value, Value]:
    shifted = bits(x) - np.uint32(0x3F3504F3)  # the bits of sqrt(1/2)
    n = np.int32(shifted) >> np.int32(23)
    return from_bits(np.uint32((shifted & np.uint32(0x007FFFFF)) + np.uint32(0x3F3504F3))), np.float32(n)


@formula
def _split_float64(x: Value) -> tuple[Value, Value]:
    shifted = bits(x) - np.uint64(0x3FE6A09E667F3BCD)
    n = np.int64(shifted) >> np.int64(52)
    return from_bits((shifted & np.uint64(0x000FFFFFFFFFFFFF)) + np.uint64(0x3FE6A09E667F3BCD)), np.float64(n)


@by_type(_split_float32, _split_float64)
def _split(x: Value) -> Value:
    """(m, n) with x = m 2^n and m from sqrt(1/2) to sqrt(2), for normal x."""


@formula
def _log(x: Value) -> Value:
    """n log(2) + log(m); log(m) for m below 1 is -log(1/m), for log1p_unit knows no negative numbers."""
    V = type(x)
    small = x < constant(x, "smallest_normal")
    m, n = _split(select(small, x * constant(x, "lifted"), x))
    n = n - select(small, constant(x, "lifted_by"), V(0.0))
    below = m < V(1.0)
    size = exps.log1p_unit(select(below, (V(1.0) - m) / m, m - V(1.0)))
    part = select(below, -size, size)
    y = fmadd(n, constant(x, "ln2_hi"), fmadd(n, constant(x, "ln2_lo"), part))
    odd = select(x == V(0.0), V(-math.inf), select(x > V(0.0), x, V(math.nan)))
    return select((x > V(0.0)) & (x <= constant(x, "largest")), y, odd)


@formula
def _log1p(x: Value) -> Value:
    """log(u) for u = 1 + x as it is rounded, and what rounding took off by its derivative."""
    V = type(x)
    u = V(1.0) + x
    lost = select(x > V(1.0), V(1.0) - (u - x), x - (u - V(1.0)))
    y = _log(u) + lost / u
    return select((u > V(0.0)) & (x <= constant(x, "largest")), select(x == V(0.0), x, y), _log(u))


@formula
def _tanh(x: Value) -> Value:
    return exps.tanh(x)


def _for_numbers(function: Any) -> Any:
    """A compiled function of any real number: integers become float64."""

    def stub(x: Value) -> Value:
        raise NotImplementedError

    @overload(stub, jit_options={"error_model": "numpy", "forceinline": True}, strict=False)
    def choose(x: Any) -> Any:
        if isinstance(x, (types.Integer, types.Boolean)):
            return lambda x: function(np.float64(x))
        if isinstance(x, types.Float):
            return lambda x: function(x)
        raise errors.TypingError(f"expected a real number, got {x}")

    @njit(error_model="numpy", forceinline=True)
    def call(x: Value) -> Value:
        return stub(x)

    return call


FUNCTIONS = {
    name: _for_numbers(function)
    for name, function in (("exp", _exp), ("expm1", _expm1), ("log", _log), ("log1p", _log1p), ("tanh", _tanh))
}


def _replaced(value: Any) -> Any:
    """What stands for a module or a function of a user's source."""
    if value is math or value is np:
        twin = python_types.ModuleType(value.__name__)
        twin.__dict__.update({**vars(value), **FUNCTIONS})
        return twin
    for name, function in FUNCTIONS.items():
        if value is getattr(math, name) or value is getattr(np, name):
            return function
    return value


def with_fast_math(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, in whose source `math.exp`, `np.exp`, `exp` and so on mean those of this module."""
    known, closure = function.__globals__, function.__closure__ or ()
    names = {name: _replaced(known[name]) for name in function.__code__.co_names if name in known}
    values = [_replaced(cell.cell_contents) for cell in closure]
    if all(value is known[name] for name, value in names.items()) and all(
        value is cell.cell_contents for value, cell in zip(values, closure, strict=True)
    ):
        return function
    cells = tuple(map(python_types.CellType, values))
    return python_types.FunctionType(function.__code__, known | names, function.__name__, function.__defaults__, cells)
