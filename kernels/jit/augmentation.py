"""Augmentation, compiled by Numba: the functions of kernels/cpu/augmentation.pyx."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from fastnn.kernels.jit.intrinsics import fmadd
from fastnn.kernels.jit.parallel import run_ranges

Array = npt.NDArray[Any]

_OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy", "boundscheck": False}


@njit(**_OPTIONS)
def _mix(a: Any, b: Any, out: Any, weight: Any, rest: Any) -> None:
    for i in range(out.size):
        out[i] = fmadd(weight, a[i], rest * b[i])


@njit(**_OPTIONS)
def _cutout(x: Any, out: Any, boxes: Any, fill: Any) -> None:
    for n in range(len(out)):
        top, bottom, left, right = boxes[n]
        for c in range(out.shape[1]):
            for row in range(out.shape[2]):
                for column in range(out.shape[3]):
                    inside = top <= row < bottom and left <= column < right
                    out[n, c, row, column] = fill[0] if inside else x[n, c, row, column]


def mix(x: Array, permutation: Array, weights: Array, out: Array) -> None:
    """out[n] = weights[n] x[n] + (1 - weights[n]) x[permutation[n]]; out lies apart from x."""
    rows = x.reshape(len(x), -1) if x.size else x.reshape(len(x), 0)
    target = out.reshape(rows.shape)

    def share(begin: int, end: int) -> None:
        for n in range(begin, end):
            a, b, y = rows[n], rows[permutation[n]], target[n]
            if x.itemsize > 2:
                _mix(a, b, y, weights[n], 1 - weights[n])
            else:
                result = np.empty(y.shape, np.float32)
                _mix(a.astype(np.float32), b.astype(np.float32), result, weights[n], 1 - weights[n])
                y[...] = result

    run_ranges(len(rows), share, rows.shape[1])


def cutout(x: Array, out: Array, boxes: Array, fill: Array) -> None:
    """out = x (N, C, H, W), except `fill` in each sample's box (top, bottom, left, right); out may be x."""
    source, target, value = (
        (array.view(np.uint16) if array.itemsize == 2 else array) for array in (x, out, fill.reshape(1))
    )
    run_ranges(
        len(out),
        lambda begin, end: _cutout(source[begin:end], target[begin:end], boxes[begin:end], value),
        out[:1].size,
    )
