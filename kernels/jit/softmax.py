"""softmax and log-softmax, compiled by Numba: the functions of kernels/cpu/softmax.pyx."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from fastnn.kernels.jit.exp import exp_of_nonpositive
from fastnn.kernels.jit.intrinsics import fmadd, fnmadd
from fastnn.kernels.jit.rows import (
    COLUMNS,
    LANES,
    OPTIONS,
    exponentials,
    from_rows,
    highest,
    log_of_sum,
    over_columns,
    sum_of_products,
    summed,
    to_rows,
)

Array = npt.NDArray[Any]


@njit(**OPTIONS)
def _softmax_rows(x: Any, y: Any, begin: int, end: int, log: bool) -> None:
    rows, e = np.empty((COLUMNS, x.shape[1]), x.dtype), np.empty(x.shape[1], x.dtype)
    lanes, sums, ties = np.empty(LANES, x.dtype), np.empty(LANES), np.empty(LANES, np.int64)
    for first in range(begin, end, COLUMNS):
        count = min(COLUMNS, end - first)
        to_rows(x, rows, first, count)
        for j in range(count):
            row = rows[j]
            top = highest(row, lanes)
            of_top, subtracted, rest = exponentials(row, e, top)
            if log:
                log_sum, _ = log_of_sum(row, e, top, of_top, sums, ties)
                wide = np.float64(rest)
                log_of_all = wide + log_sum
                d = log_of_all - wide
                high = row.dtype.type(log_of_all)
                low = row.dtype.type((log_of_all - high) + ((wide - (log_of_all - d)) + (log_sum - d)))
                for c in range(row.size):
                    row[c] = ((row[c] - subtracted) - high) - low
            else:
                total = summed(e, sums)
                high = row.dtype.type(1.0 / total)
                low = row.dtype.type(fnmadd(total, np.float64(high), 1.0) / total)
                for c in range(row.size):
                    row[c] = fmadd(e[c], high, e[c] * low)
        from_rows(y, rows, first, count)


@njit(**OPTIONS)
def _backward_rows(dy: Any, y: Any, dx: Any, begin: int, end: int, log: bool) -> None:
    gradients, results = np.empty((COLUMNS, y.shape[1]), y.dtype), np.empty((COLUMNS, y.shape[1]), y.dtype)
    sums = np.empty(LANES)
    for first in range(begin, end, COLUMNS):
        count = min(COLUMNS, end - first)
        to_rows(dy, gradients, first, count)
        to_rows(y, results, first, count)
        for j in range(count):
            gradient, result = gradients[j], results[j]
            if log:
                total = gradient.dtype.type(summed(gradient, sums))
                for c in range(gradient.size):
                    result[c] = fnmadd(exp_of_nonpositive(result[c]), total, gradient[c])
            else:
                total = gradient.dtype.type(sum_of_products(gradient, result, sums))
                for c in range(gradient.size):
                    result[c] = result[c] * (gradient[c] - total)
        from_rows(dx, results, first, count)


def softmax(x: Array, out: Array) -> None:
    """y = e^x / sum of e^x along axis 1; `out` may be `x`."""
    over_columns(lambda a, b, begin, end: _softmax_rows(a, b, begin, end, False), out, x)


def log_softmax(x: Array, out: Array) -> None:
    """Write the logarithm of softmax; `out` may be `x`."""
    over_columns(lambda a, b, begin, end: _softmax_rows(a, b, begin, end, True), out, x)


def softmax_backward(dy: Array, y: Array, out: Array) -> None:
    """dx = y (dy - sum of dy y along axis 1); `out` may be `dy` or `y`."""
    over_columns(lambda a, b, c, begin, end: _backward_rows(a, b, c, begin, end, False), out, dy, y)


def log_softmax_backward(dy: Array, y: Array, out: Array) -> None:
    """dx = dy - e^y sum of dy along axis 1; `out` may be `dy` or `y`."""
    over_columns(lambda a, b, c, begin, end: _backward_rows(a, b, c, begin, end, True), out, dy, y)
