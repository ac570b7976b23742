"""The number systems that the formulas of the op table are evaluated over.

A formula `f(m, x, ...)` takes its elementary functions from `m`. `numpy64` evaluates it on float64 arrays at full
speed; `mp()` evaluates it on mpmath numbers, whose working precision makes cancellation harmless, and so judges
`numpy64`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

_erfc = np.frompyfunc(math.erfc, 1, 1)


class Numpy64:
    """float64 arrays; every function within a few units in the last place over its whole domain."""

    pi = math.pi
    nan = math.nan
    largest = float(np.finfo(np.float64).max)

    exp = staticmethod(np.exp)
    expm1 = staticmethod(np.expm1)
    log1p = staticmethod(np.log1p)
    tanh = staticmethod(np.tanh)
    sin = staticmethod(np.sin)
    cos = staticmethod(np.cos)
    sqrt = staticmethod(np.sqrt)
    abs = staticmethod(np.abs)
    where = staticmethod(np.where)
    number = staticmethod(float)

    @staticmethod
    def array(x: Any) -> F64:
        """Convert to float64."""
        return np.asarray(x, np.float64)

    @staticmethod
    def maximum(a: Any, b: Any) -> Any:
        """The larger; `b` where they are equal, or where either is NaN."""
        return np.where(a > b, a, b)

    @staticmethod
    def minimum(a: Any, b: Any) -> Any:
        """The smaller; `b` where they are equal, or where either is NaN."""
        return np.where(a < b, a, b)

    @classmethod
    def times(cls, a: Any, b: Any) -> Any:
        """The product a b where b vanishes faster than any a grows: infinity times 0 is 0, with the product's sign."""
        return np.where(b == 0, np.clip(a, -cls.largest, cls.largest), a) * b

    @staticmethod
    def erfc(x: Any) -> F64:
        """The complementary error function, by the C library where it is neither 0 nor 2 nor a straight line."""
        x = np.asarray(x, np.float64)
        # Below 2^-20 the cubic term is under 2^-61; below -6 the result rounds to 2; above 27.3 to 0.
        y = np.where(x < 0, 2.0, 0.0)
        y = np.where(np.abs(x) < 2.0**-20, 1.0 - x * (2.0 / math.sqrt(math.pi)), y)
        curved = (np.abs(x) >= 2.0**-20) & (x > -6.0) & (x < 27.3)
        y[curved] = _erfc(x[curved]).astype(np.float64)
        return np.where(np.isnan(x), x, y)


def _elementwise(function: Callable[..., Any]) -> Callable[..., Any]:
    elementwise: Callable[..., Any] = np.frompyfunc(function, function.__code__.co_argcount, 1)
    return elementwise


class Mpmath:
    """Arbitrary precision, elementwise over scalars and object arrays, without signed zeros and underflow."""

    def __init__(self, context: Any) -> None:
        """Take the functions from an mpmath context of sufficient precision."""
        self.context = context
        self.pi = +context.pi
        self.nan = context.nan
        self.largest = context.mpf(Numpy64.largest)
        self.number = context.mpf
        for name in ("exp", "expm1", "log1p", "tanh", "sin", "cos", "sqrt"):
            setattr(self, name, np.frompyfunc(getattr(context, name), 1, 1))
        self.abs = _elementwise(lambda x: abs(x))
        self.where = _elementwise(lambda condition, a, b: a if condition else b)
        self.maximum = _elementwise(lambda a, b: a if a > b else b)
        self.minimum = _elementwise(lambda a, b: a if a < b else b)

        def times(a: Any, b: Any) -> Any:
            return context.zero if b == 0 else a * b

        def erfc(x: Any) -> Any:
            """Clipped where the result is far below every float64; mpmath is slow there, and fails at 2^512."""
            if x < -64:
                return 2 * context.one
            return context.zero if x == context.inf else context.erfc(min(x, 64 * context.one))

        self.times = _elementwise(times)
        self.erfc = _elementwise(erfc)
        self._convert = _elementwise(lambda value: context.mpf(value))

    def __getattr__(self, name: str) -> Any:
        """Only names set in `__init__` exist; this declares them to type checkers."""
        raise AttributeError(name)

    def array(self, x: Any) -> Any:
        """Convert numbers, or an array of them, exactly."""
        return self._convert(np.asarray(x, object) if isinstance(x, np.ndarray) else x)


numpy64 = Numpy64()


@functools.cache
def mp(bits: int = 256) -> Mpmath:
    """The arbitrary-precision namespace with `bits` of working precision (needs mpmath, a test dependency)."""
    import mpmath

    context = mpmath.MPContext()
    context.prec = bits
    return Mpmath(context)


def to_float64(values: Any) -> F64:
    """Arbitrary-precision results rounded to float64."""
    with np.errstate(all="ignore"):
        return np.asarray(np.frompyfunc(float, 1, 1)(values), np.float64)
