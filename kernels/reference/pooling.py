"""Pooling in plain NumPy: float64, rounded once to float32 and from that to the 16-bit formats."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.kernels.reference.rounding import store, widen
from fastnn.table import pooling_formulas as formulas
from fastnn.windows import Axes, Bounds, Counts

Array = npt.NDArray[Any]


def max_windows(x: Array, y: Array, where: Array | None, windows: Axes) -> None:
    """Maxima over windows, and their positions in the plane, int64, where wanted."""
    _store_maxima(y, where, *formulas.max_windows(_planes(x), windows))


def max_regions(x: Array, y: Array, where: Array | None, starts: Bounds, stops: Bounds) -> None:
    """Maxima over regions, and their positions in the plane, int64, where wanted."""
    _store_maxima(y, where, *formulas.max_regions(_planes(x), starts, stops))


def max_backward(dy: Array, where: Array, dx: Array) -> bool:
    """dx = 0, then dx[where] += dy, plane by plane. False if a position is outside of its plane."""
    planes = _planes(dx)
    if not inside(where, planes[0].size):
        return False
    _store(formulas.max_backward(_planes(dy), where, planes.shape), dx)
    return True


def inside(where: Array, size: int) -> bool:
    """Are all positions in a plane of so many elements?"""
    return bool(where.min() >= 0 and where.max() < size)


def average_windows(x: Array, y: Array, windows: Axes, counts: Counts) -> None:
    """Averages over windows: sums divided by counts[0][d] * counts[1][h] * counts[2][w]."""
    _store(formulas.average_windows(_planes(x), windows, counts), y)


def average_windows_backward(dy: Array, dx: Array, windows: Axes, counts: Counts) -> None:
    """The gradient of average_windows."""
    _store(formulas.average_windows_backward(_planes(dy), windows, counts), dx)


def average_regions(x: Array, y: Array, starts: Bounds, stops: Bounds) -> None:
    """Averages over regions, the same for every plane."""
    _store(formulas.average_regions(_planes(x), starts, stops), y)


def average_regions_backward(dy: Array, dx: Array, starts: Bounds, stops: Bounds) -> None:
    """The gradient of average_regions."""
    _store(formulas.average_regions_backward(_planes(dy), starts, stops, _planes(dx).shape), dx)


def average_whole(x: Array, y: Array) -> None:
    """The average of each plane of x."""
    _store(widen(x).reshape(y.size, -1).mean(axis=1), y)


def average_whole_backward(dy: Array, dx: Array) -> None:
    """The gradient of average_whole."""
    share = widen(dy).reshape(-1, 1) / (dx.size // dy.size)
    _store(np.broadcast_to(share, (dy.size, dx.size // dy.size)), dx)


def _planes(array: Array) -> Array:
    """(N, C, *spatial) as (planes, depth, height, width), in float64."""
    shape = array.shape
    return widen(array).reshape(-1, *(1,) * (5 - len(shape)), *shape[2:])


def _store(result: Array, out: Array) -> None:
    store(result.reshape(out.shape), out)


def _store_maxima(out: Array, where: Array | None, y: Array, at: Array) -> None:
    _store(y, out)
    if where is not None:
        where[...] = at.reshape(where.shape)
