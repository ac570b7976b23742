"""Rows of windows, compiled by Numba: what a row of x adds to all windows that it is in.

Two or three elements together where windows are that wide and lie inside, else their k-th elements one after the other:
either way LLVM makes vectors of neighbouring windows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy", "boundscheck": False}


@njit(**OPTIONS)
def elements_inside(first: int, length: int, kernel: int, dilation: int) -> Any:
    """The elements k, from and to, of the window from `first` on that lie inside."""
    begin = 0 if first >= 0 else (dilation - 1 - first) // dilation
    end = kernel
    if first + (kernel - 1) * dilation >= length:
        end = (length - first + dilation - 1) // dilation if first < length else 0
    return min(begin, end), end


@njit(**OPTIONS)
def windows_with(shift: int, stride: int, length: int, out: int) -> Any:
    """The windows, from and to, whose element at o * stride + shift lies inside."""
    low = 0 if shift >= 0 else (stride - 1 - shift) // stride
    high = min(out, (length - 1 - shift) // stride + 1) if shift < length else 0
    return min(low, high), high


@njit(**OPTIONS)
def windows_with_each(axis: Any) -> Any:
    """windows_with for every element k of an axis's windows, and the windows that lie inside as a whole.

    None does where windows are not of two or three neighbours: for those there is no quicker way.
    """
    length, out, kernel, stride, before, dilation = axis
    low, high = np.empty(kernel, np.int64), np.empty(kernel, np.int64)
    first, last = (0, out) if dilation == 1 and 2 <= kernel <= 3 else (out, out)
    for k in range(kernel):
        low[k], high[k] = windows_with(k * dilation - before, stride, length, out)
        first, last = max(first, low[k]), min(last, high[k])
    return low, high, min(first, out), max(first, last)


@njit(**OPTIONS, inline="always")
def natural(i: int) -> Any:
    """An index that is not negative: what Numba does for those that may be keeps LLVM from making vectors."""
    return np.uint64(i)


@njit(**OPTIONS, inline="always")
def _raise(x: Any, at: int, y: Any, where: Any, to: int, n: int, stride: int, kernel: int, position: int) -> None:
    """`kernel` elements of each of n windows, from x[at] on: y[to + o] where one is greater or NaN."""
    for o in range(n):
        value, place = x[natural(at + o * stride)], position + o * stride
        for k in range(1, kernel):
            other = x[natural(at + o * stride + k)]
            takes = (other > value) | (other != other)
            value = other if takes else value
            place = position + o * stride + k if takes else place
        old = y[natural(to + o)]
        takes = (value > old) | (value != value)
        y[natural(to + o)] = value if takes else old
        if where is not None:
            kept = where[natural(to + o)]
            where[natural(to + o)] = place if takes else kept


@njit(**OPTIONS, inline="always")
def _add(x: Any, at: int, total: Any, _: Any, to: int, n: int, stride: int, kernel: int, __: int) -> None:
    """The same for sums."""
    for o in range(n):
        value = np.float64(x[natural(at + o * stride)])
        if kernel > 1:
            value += x[natural(at + o * stride + 1)]
        if kernel > 2:
            value += x[natural(at + o * stride + 2)]
        total[natural(to + o)] += value


def _row(step: Any) -> Any:
    """The function that does a step for a row of x and all windows that it is in."""

    # of two or three elements, or of no windows
    @njit(**OPTIONS, inline="always")
    def strided(x: Any, at: int, y: Any, where: Any, to: int, n: int, stride: int, kernel: int, position: int) -> None:
        if kernel == 2 and stride == 2:
            step(x, at, y, where, to, n, 2, 2, position)
        elif kernel == 2:
            step(x, at, y, where, to, n, stride, 2, position)
        elif stride == 2:
            step(x, at, y, where, to, n, 2, 3, position)
        else:
            step(x, at, y, where, to, n, stride, 3, position)

    @njit(**OPTIONS, inline="always")
    def row(x: Any, start: int, y: Any, where: Any, to: int, axis: Any, covering: Any, position: int) -> None:
        _, out, kernel, stride, before, dilation = axis
        low, high, first, last = covering
        at = first * stride - before
        strided(x, start + at, y, where, to + first, last - first, stride, kernel, position + at)
        if last - first == out:
            return
        for side in range(2 * kernel):
            k = side // 2
            begin = low[k] if side % 2 == 0 else max(low[k], last)
            end = min(high[k], first) if side % 2 == 0 else high[k]
            at = begin * stride - before + k * dilation
            step(x, start + at, y, where, to + begin, end - begin, stride, 1, position + at)

    return row


raise_row, add_row = _row(_raise), _row(_add)
