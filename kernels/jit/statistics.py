"""What a training loop watches of activations, for Numba."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.kernels.jit.elements import cached, memory, read

Array = npt.NDArray[Any]


@cached
def _describe(y: Any, bounds: Any) -> Any:
    """The sum, the extremes, whether there is a NaN, and the counts."""
    total, least, most, nan = np.zeros(16), np.inf, -np.inf, 0.0
    inactive, low, high = 0.0, 0.0, 0.0
    for i in range(y.size):
        x = np.float64(read(y, i))
        total[i % 16] += x
        least = x if x < least else least
        most = x if x > most else most
        inactive += 1.0 if x <= 0.0 else 0.0
        low += 1.0 if bounds[0] <= x <= bounds[1] else 0.0
        high += 1.0 if bounds[2] <= x <= bounds[3] else 0.0
        nan += 0.0 if x == x else 1.0
    return total, least, most, nan, inactive, low, high


@cached
def _squares(y: Any, mean: float) -> Any:
    lanes = np.zeros(16)
    for i in range(y.size):
        gap = np.float64(read(y, i)) - mean
        lanes[i % 16] += gap * gap
    return lanes


@cached
def _inactive(y: Any, channels: int, inner: int) -> Any:
    counts = np.zeros(channels)
    for row in range(y.size // inner):
        found = 0
        for i in range(row * inner, (row + 1) * inner):
            found += 1 if read(y, i) <= 0 else 0
        counts[row % channels] += found
    return counts


def describe(y: Array, bounds: Sequence[float]) -> tuple[float, float, float, float, float, float, float]:
    """Mean, standard deviation, minimum, maximum, and how many elements are <= 0, in the first and in the second range.

    bounds: the ends of both ranges, four numbers. y has one element or more.
    """
    flat = memory(y)
    total, least, most, nan, inactive, low, high = _describe(flat, np.asarray(bounds, np.float64))
    with np.errstate(all="ignore"):
        mean = float(np.sum(total) / flat.size)
        std = math.sqrt(float(np.sum(_squares(flat, mean))) / flat.size)
    if nan:
        least = most = math.nan
    return mean, std, float(least), float(most), inactive, low, high


def inactive(y: Array) -> Array:
    """How many elements of each channel are <= 0: y has the axes (samples, channels, positions)."""
    if y.size == 0:
        return np.zeros(y.shape[1])
    counts: Array = _inactive(memory(y), y.shape[1], y.shape[2])
    return counts
