"""What a training loop watches of activations, in float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.kernels.reference.rounding import widen

Array = npt.NDArray[Any]


def describe(y: Array, bounds: Sequence[float]) -> tuple[float, float, float, float, float, float, float]:
    """Mean, standard deviation, minimum, maximum, and how many elements are <= 0, in the first and in the second range.

    bounds: the ends of both ranges, four numbers. y has one element or more.
    """
    wide = widen(y)
    with np.errstate(all="ignore"):
        numbers = (np.mean(wide), np.std(wide), np.min(wide), np.max(wide))
        ranges = ((-np.inf, 0.0), (bounds[0], bounds[1]), (bounds[2], bounds[3]))
        counts = (np.count_nonzero((wide >= first) & (wide <= last)) for first, last in ranges)
    mean, std, minimum, maximum, inactive, low, high = (float(value) for value in (*numbers, *counts))
    return mean, std, minimum, maximum, inactive, low, high


def inactive(y: Array) -> Array:
    """How many elements of each channel are <= 0: y has the axes (samples, channels, positions)."""
    return np.asarray(np.count_nonzero(widen(y) <= 0, axis=(0, 2)), np.float64)
