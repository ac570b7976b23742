"""Pooling in plain NumPy: float64, rounded once to float32 and from that to the 16-bit formats."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.kernels.reference.activations import compute_dtype
from fastnn.table import pooling_formulas as formulas
from fastnn.windows import Axes, Bounds, Counts

Array = npt.NDArray[Any]


def max_windows(x: Array, y: Array, where: Array | None, windows: Axes) -> None:
    """Maxima over windows, and their positions in the plane, int64, where wanted."""
    _store_maxima(y, where, *formulas.max_windows(_widen(x), windows))


def max_regions(x: Array, y: Array, where: Array | None, starts: Bounds, stops: Bounds) -> None:
    """Maxima over regions, and their positions in the plane, int64, where wanted."""
    _store_maxima(y, where, *formulas.max_regions(_widen(x), starts, stops))


def max_backward(dy: Array, where: Array, dx: Array) -> bool:
    """dx = 0, then dx[where] += dy, plane by plane. False if a position is outside of its plane."""
    size = int(np.prod(dx.shape[1:]))
    if where.size and not (where.min() >= 0 and where.max() < size):
        return False
    _store(dx, formulas.max_backward(_widen(dy), where, dx.shape))
    return True


def average_windows(x: Array, y: Array, windows: Axes, counts: Counts) -> None:
    """Averages over windows: sums divided by counts[0][d] * counts[1][h] * counts[2][w]."""
    _store(y, formulas.average_windows(_widen(x), windows, counts))


def average_windows_backward(dy: Array, dx: Array, windows: Axes, counts: Counts) -> None:
    """The gradient of average_windows."""
    _store(dx, formulas.average_windows_backward(_widen(dy), windows, counts))


def average_regions(x: Array, y: Array, starts: Bounds, stops: Bounds) -> None:
    """Averages over regions, the same for every plane."""
    _store(y, formulas.average_regions(_widen(x), starts, stops))


def average_regions_backward(dy: Array, dx: Array, starts: Bounds, stops: Bounds) -> None:
    """The gradient of average_regions."""
    _store(dx, formulas.average_regions_backward(_widen(dy), starts, stops, dx.shape))


def average_whole(x: Array, y: Array) -> None:
    """The average of each plane of x; y has one element for each."""
    _store(y, _widen(x).mean(axis=tuple(range(1, x.ndim))).reshape(y.shape))


def average_whole_backward(dy: Array, dx: Array) -> None:
    """The gradient of average_whole."""
    share = _widen(dy) / (dx.size // max(len(dx), 1))
    _store(dx, np.broadcast_to(share.reshape(-1, *(1,) * (dx.ndim - 1)), dx.shape))


def _widen(x: Array) -> Array:
    with np.errstate(all="ignore"):  # a signalling NaN is not worth a warning
        return x.astype(np.float64)


def _store(out: Array, y: Array) -> None:
    with np.errstate(all="ignore"):
        out[...] = y.astype(compute_dtype(out.dtype)).astype(out.dtype, copy=False)


def _store_maxima(out: Array, where: Array | None, y: Array, at: Array) -> None:
    _store(out, y)
    if where is not None:
        where[...] = at
