"""NumPy's reductions for watching a training run."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...problems.base import Buffers
from ...timing import Run
from ..base import Factory
from .optimizers import dot

MARGIN = 0.01


def dead_units(b: Buffers) -> Run:
    y, below = b.y, np.empty(b.y.shape, bool)

    def run() -> Any:
        inactive = np.count_nonzero(np.less_equal(y, 0, out=below), axis=0)
        return inactive == len(y), inactive / len(y)

    return run


def saturation(b: Buffers) -> Run:
    """Of tanh, whose limits are -1 and 1 and never crossed."""
    y, near = b.y, np.empty(b.y.shape, bool)
    kind = y.dtype.type

    def run() -> Any:
        low = np.count_nonzero(np.less_equal(y, kind(MARGIN - 1), out=near))
        high = np.count_nonzero(np.greater_equal(y, kind(1 - MARGIN), out=near))
        return low / y.size, high / y.size

    return run


def activation_statistics(b: Buffers) -> Run:
    y, saturated, below = b.y, saturation(b), np.empty(b.y.shape, bool)

    def run() -> Any:
        inactive = np.count_nonzero(np.less_equal(y, 0, out=below)) / y.size
        return np.mean(y), np.std(y), np.min(y), np.max(y), inactive, *saturated()

    return run


def update_ratio(b: Buffers) -> Run:
    return lambda: math.sqrt(dot(b.update) / dot(b.param))


FACTORIES: dict[str, Factory] = {
    "dead_units": dead_units,
    "saturation": saturation,
    "activation_statistics": activation_statistics,
    "update_ratio": update_ratio,
}
