"""Users' own activations: scalar Python functions in the loops that the table's formulas run in.

They are compiled anew in every process: what their functions call cannot be known, so that a cache on disk might give
the results of yesterday's source.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from typing import Any

from numba import njit, types
from numba.core.errors import NumbaError, TypingError
from numba.extending import intrinsic

from fastnn.kernels.jit import custom_ufunc
from fastnn.kernels.jit.intrinsics import formula
from fastnn.kernels.jit.mathematics import with_fast_math
from fastnn.kernels.jit.registry import CUSTOM, Activation

_numbers = itertools.count()


@intrinsic
def _as(typingctx: Any, x: Any, value: Any) -> Any:
    """`value` as a number of x's type."""
    if not isinstance(value, (types.Float, types.Integer, types.Boolean)):
        raise TypingError(f"the result is {value}; expected a real number")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.cast(builder, arguments[1], value, x)

    return x(x, value), generate


def register(name: str, function: Callable[..., Any], derivative: Callable[..., Any] | None, params: int) -> str:
    """Enter f(x, *params) and its derivative; the key under which `evaluate` runs them."""
    key = f"{name}#{next(_numbers)}"
    forward = _scalar(function, params, "x", "{}")
    backward = None if derivative is None else _scalar(derivative, params, "dy, x", "dy * {}")
    CUSTOM[key] = Activation(
        key, formula(forward), None if backward is None else formula(backward), None, None, reach="exp_near"
    )
    return key


def forget(key: str) -> None:
    """Forget an entry that nobody has the key of any more."""
    CUSTOM.pop(key, None)


def ufunc(name: str, function: Callable[..., Any], params: int, doc: str) -> Any:
    """f(x, *params) as a numpy.ufunc."""
    return custom_ufunc.make(name, _scalar(function, params, "x", "{}"), 1 + params, doc)


def _scalar(function: Callable[..., Any], params: int, arrays: str, result: str) -> Any:
    """A function of so many numbers, written out: compiled loops pass each by itself. Its result is of x's type."""
    rest = "".join(f", p{index}" for index in range(params))
    compiled = _compiled(getattr(function, "py_func", function), 1 + params)
    space = {"f": compiled, "number": _as}
    exec(f"def scalar({arrays}{rest}):\n    return {result.format(f'number(x, f(x{rest}))')}", space)
    return space["scalar"]


def _compiled(function: Callable[..., Any], inputs: int) -> Any:
    """The function for compiled code, with vectors' exp and the like where Numba can deal with that."""
    options = {"error_model": "numpy", "fastmath": False, "boundscheck": False, "forceinline": True}
    fast = with_fast_math(function)
    if fast is not function:
        compiled = njit(**options)(fast)
        with contextlib.suppress(NumbaError):
            compiled.compile((types.float32,) * inputs)
            return compiled
    return njit(**options)(function)
