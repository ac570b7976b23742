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
    _store_maxima(y, where, *formulas.max_windows(widen(x), windows))


def max_regions(x: Array, y: Array, where: Array | None, starts: Bounds, stops: Bounds) -> None:
    """Maxima over regions, and their positions in the plane, int64, where wanted."""
    _store_maxima(y, where, *formulas.max_regions(widen(x), starts, stops))


def max_backward(dy: Array, where: Array, dx: Array) -> bool:
    """dx = 0, then dx[where] += dy, plane by plane. False if a position is outside of its plane."""
    size = int(np.prod(dx.shape[1:]))
    if where.size and not (where.min() >= 0 and where.max() < size):
        return False
    store(formulas.max_backward(widen(dy), where, dx.shape), dx)
    return True


def average_windows(x: Array, y: Array, windows: Axes, counts: Counts) -> None:
    """Averages over windows: sums divided by counts[0][d] * counts[1][h] * counts[2][w]."""
    store(formulas.average_windows(widen(x), windows, counts), y)


def average_windows_backward(dy: Array, dx: Array, windows: Axes, counts: Counts) -> None:
    """The gradient of average_windows."""
    store(formulas.average_windows_backward(widen(dy), windows, counts), dx)


def average_regions(x: Array, y: Array, starts: Bounds, stops: Bounds) -> None:
    """Averages over regions, the same for every plane."""
    store(formulas.average_regions(widen(x), starts, stops), y)


def average_regions_backward(dy: Array, dx: Array, starts: Bounds, stops: Bounds) -> None:
    """The gradient of average_regions."""
    store(formulas.average_regions_backward(widen(dy), starts, stops, dx.shape), dx)


def average_whole(x: Array, y: Array) -> None:
    """The average of each plane of x; y has one element for each."""
    store(widen(x).mean(axis=tuple(range(1, x.ndim))).reshape(y.shape), y)


def average_whole_backward(dy: Array, dx: Array) -> None:
    """The gradient of average_whole."""
    share = widen(dy) / (dx.size // max(len(dx), 1))
    store(np.broadcast_to(share.reshape(-1, *(1,) * (dx.ndim - 1)), dx.shape), dx)


def _store_maxima(out: Array, where: Array | None, y: Array, at: Array) -> None:
    store(y, out)
    if where is not None:
        where[...] = at
