"""Penalties on weights, compiled by Numba: the function of kernels/cpu/regularizers.pyx."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from fastnn.kernels.jit.intrinsics import fmadd
from fastnn.kernels.jit.parallel import run_ranges
from fastnn.kernels.jit.rows import LANES, OPTIONS

Array = npt.NDArray[Any]

_CHUNK = 1 << 14  # elements that a partial sum is over, and of the 16-bit formats that are widened at a time


@njit(**OPTIONS)
def _penalty(w: Any, grad: Any, slope: Any, step: Any, squared: bool, sized: bool) -> tuple[float, float]:
    squares, sizes = np.zeros(LANES), np.zeros(LANES)
    for begin in range(0, w.size, LANES):
        for k in range(min(LANES, w.size - begin)):
            x = w[begin + k]
            squares[k] += np.float64(x) * np.float64(x)
            sizes[k] += np.float64(abs(x))
    if squared:
        for i in range(grad.size):
            grad[i] = fmadd(slope, w[i], grad[i])
    if sized:
        for i in range(grad.size):
            grad[i] += step if w[i] > 0 else -step if w[i] < 0 else w[i]
    return squares.sum(), sizes.sum()


def penalty(w: Array, grad: Array | None, quadratic: float | None, linear: float | None) -> tuple[float, float]:
    """(sum of squares, sum of magnitudes) of `w`; `grad`, if there is one, += 2 quadratic w + linear sign(w).

    A coefficient of None leaves its term out; its sum is then 0.
    """
    flat, target = w.reshape(-1), None if grad is None else grad.reshape(-1)
    number = np.float64 if w.dtype == np.float64 else np.float32
    partial = np.zeros((-(-w.size // _CHUNK), 2))
    factors = number(2 * (quadratic or 0.0)), number(linear or 0.0), quadratic is not None, linear is not None

    def share(begin: int, end: int) -> None:
        for chunk in range(-(-begin // _CHUNK), -(-end // _CHUNK)):
            part = slice(chunk * _CHUNK, (chunk + 1) * _CHUNK)
            x = flat[part].astype(number, copy=False)
            slope = np.empty(0, number) if target is None else target[part].astype(number, copy=False)
            partial[chunk] = _penalty(x, slope, *factors)
            if target is not None and w.itemsize == 2:
                with np.errstate(all="ignore"):
                    target[part] = slope

    run_ranges(w.size, share)
    squares, sizes = np.sum(partial, axis=0)
    return 0.0 if quadratic is None else float(squares), 0.0 if linear is None else float(sizes)
