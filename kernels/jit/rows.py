"""Rows and columns for Numba: sums on 16 lanes, exponentials less their maximum, and columns turned into rows.

A column is copied into a row of its own, 16 columns at a time, so that one loop serves every axis. LLVM makes vector
code of loops over 16 lanes in memory, which a reduction in a scalar would not become without permission to reorder it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from fastnn.kernels.jit.intrinsics import (
    constant,
    define,
    exponent_of,
    fmadd,
    fnmadd,
    formula,
    nearest,
    polynomial_by_halves,
    vmax,
)
from fastnn.kernels.jit.parallel import run_ranges

Array = npt.NDArray[Any]
OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy", "boundscheck": False}

LANES = 16
COLUMNS = 16  # columns turned into rows at a time
_PIECE = 1 << 16  # elements of the 16-bit formats that are widened at a time

# See include/softmax.hpp.
define("softmax_lift", 25.0, 54.0)
define("softmax_zero_below", 152.0, 1077.0)
define("softmax_subtract_below", -105.0, -709.5)
define("softmax_subtract_above", 210.0, 1419.0)


@formula
def exponential(x: Any, subtracted: Any, low: Any, shifter: Any) -> Any:
    """e^(x - max) 2^lift, up to a factor that is the same for a whole row."""
    u = vmax(low, x - subtracted)
    shifted = fmadd(u, constant(x, "log2e"), shifter)
    n = shifted - shifter
    r = fnmadd(n, constant(x, "ln2_lo"), fnmadd(n, constant(x, "ln2_hi"), u))
    square = r * r
    t = fmadd(square, polynomial_by_halves(r, square, "exp_tail", False), r)
    power = exponent_of(shifted)
    return fmadd(power, t, power)


@formula
def shift_of(top: Any) -> Any:
    """What `exponential` subtracts from x, from where on it is 0, its shifter, and what remains of the maximum."""
    far = top < constant(top, "softmax_subtract_below") or top > constant(top, "softmax_subtract_above")
    subtracted = top if far else top - top
    rest = top - subtracted
    n = nearest(rest * constant(top, "log2e"))
    low = (n - constant(top, "softmax_zero_below")) * constant(top, "ln2_hi")
    return subtracted, low, constant(top, "shifter_and_bias") + constant(top, "softmax_lift") - n, rest


@njit(**OPTIONS)
def highest(x: Any, lanes: Any) -> Any:
    """The largest number of a row; NaN does not count."""
    lanes[:] = -np.inf
    whole = x.size - x.size % LANES
    for i in range(0, whole, LANES):
        for k in range(LANES):
            lanes[k] = vmax(x[i + k], lanes[k])
    for i in range(whole, x.size):
        lanes[0] = vmax(x[i], lanes[0])
    for k in range(1, LANES):
        lanes[0] = vmax(lanes[k], lanes[0])
    return lanes[0]


@njit(**OPTIONS)
def summed(x: Any, sums: Any) -> float:
    """The sum of a row in double precision."""
    sums[:] = 0.0
    whole = x.size - x.size % LANES
    for i in range(0, whole, LANES):
        for k in range(LANES):
            sums[k] += x[i + k]
    for i in range(whole, x.size):
        sums[i - whole] += x[i]
    for width in (8, 4, 2, 1):
        for k in range(width):
            sums[k] += sums[k + width]
    return float(sums[0])


@njit(**OPTIONS)
def sum_of_products(x: Any, y: Any, sums: Any) -> float:
    """The sum of x y over a row, in double precision."""
    sums[:] = 0.0
    whole = x.size - x.size % LANES
    for i in range(0, whole, LANES):
        for k in range(LANES):
            sums[k] += np.float64(x[i + k]) * np.float64(y[i + k])
    for i in range(whole, x.size):
        sums[i - whole] += np.float64(x[i]) * np.float64(y[i])
    return float(sums.sum())


@njit(**OPTIONS)
def exponentials(x: Any, e: Any, top: Any) -> Any:
    """Write the exponentials of a row; return that of the maximum, what was subtracted, and the rest of the maximum."""
    subtracted, low, shifter, rest = shift_of(top)
    for i in range(x.size):
        e[i] = exponential(x[i], subtracted, low, shifter)
    return exponential(top, subtracted, low, shifter), subtracted, rest


@njit(**OPTIONS)
def log_of_sum(x: Any, e: Any, top: Any, of_top: Any, sums: Any, ties: Any) -> tuple[float, float]:
    """The logarithm of the sum of e^(x - max), the maximum apart, and the sum of the exponentials."""
    sums[:] = 0.0
    ties[:] = 0
    whole = x.size - x.size % LANES
    for i in range(0, whole, LANES):
        for k in range(LANES):
            sums[k] += 0.0 if x[i + k] == top else e[i + k]
            ties[k] += 1 if x[i + k] == top else 0
    for i in range(whole, x.size):
        sums[i - whole] += 0.0 if x[i] == top else e[i]
        ties[i - whole] += 1 if x[i] == top else 0
    tail, count = sums.sum(), ties.sum()
    return float(np.log1p(tail / of_top + (count - 1))), float(tail + count * of_top)


@njit(**OPTIONS)
def to_rows(x: Any, rows: Any, first: int, count: int) -> None:
    """Columns first, first + 1 ... of (outer, classes, inner) as rows."""
    inner = x.shape[2]
    for j in range(count):
        outer, i = (first + j) // inner, (first + j) % inner
        for c in range(x.shape[1]):
            rows[j, c] = x[outer, c, i]


@njit(**OPTIONS)
def from_rows(x: Any, rows: Any, first: int, count: int) -> None:
    """Rows back to their columns."""
    inner = x.shape[2]
    for j in range(count):
        outer, i = (first + j) // inner, (first + j) % inner
        for c in range(x.shape[1]):
            x[outer, c, i] = rows[j, c]


def over_columns(loop: Callable[..., Any], out: Array, *arrays: Array) -> None:
    """Call loop(*arrays, out, begin, end) for ranges of columns of (outer, classes, inner), on several threads."""
    outer, classes, inner = out.shape
    if out.size == 0:
        return
    if out.itemsize > 2:
        run_ranges(out.size, lambda begin, end: loop(*arrays, out, -(-begin // classes), -(-end // classes)))
        return
    step = max(1, _PIECE // (classes * inner))
    for first in range(0, outer, step):
        piece = slice(first, first + step)
        result = np.empty(out[piece].shape, np.float32)
        over_columns(loop, result, *(array[piece].astype(np.float32) for array in arrays))
        with np.errstate(all="ignore"):
            out[piece] = result
