"""What a training loop watches of activations. Source: statistics.cu.

Results stay on the device: arrays of shape () and dtype float64 where the other backends return floats.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.kernels.cuda import channels
from fastnn.kernels.cuda.compiler import Family, cupy, launch, launch_rows
from fastnn.kernels.cuda.sums import ADD_UP, added_up, blocks, partial_sums, threads

Array = Any

_KINDS = 7  # of what a block leaves, and of results
FAMILY = Family(
    "statistics",
    "describe_elements<{T}>",
    "describe_first",
    "describe_squares<{T}>",
    "describe_second",
    "inactive_counts<{T}>",
    "inactive_totals",
    ADD_UP,
)


def describe(y: Array, bounds: Sequence[float]) -> tuple[Array, Array, Array, Array, Array, Array, Array]:
    """Mean, standard deviation, minimum, maximum, and how many elements are <= 0, in the first and in the second range.

    bounds: the ends of both ranges, four numbers. y has one element or more.
    """
    count, n = blocks(y.size), np.float64(y.size)
    partial, squares = partial_sums(y.size, _KINDS), partial_sums(y.size)
    result = cupy().empty(_KINDS, np.float64)
    kernel, some = FAMILY.kernel("describe_elements<{T}>", y.dtype), threads(y.size)
    launch(kernel, count, y, partial, y.size, *map(np.float64, bounds), threads=some)
    launch(FAMILY.kernel("describe_first", y.dtype), 1, partial, result, count, n, threads=threads(count))
    launch(FAMILY.kernel("describe_squares<{T}>", y.dtype), count, y, result, squares, y.size, threads=some)
    launch(FAMILY.kernel("describe_second", y.dtype), 1, added_up(FAMILY, y.dtype, squares), result, n, threads=32)
    mean, std, minimum, maximum, inactive_count, low, high = result
    return mean, std, minimum, maximum, inactive_count, low, high


def inactive(y: Array) -> Array:
    """How many elements of each channel are <= 0: y has the axes (samples, channels, positions)."""
    outer, count, inner = y.shape
    splits = channels.shares(outer, count, inner)
    shape = (outer, count, inner, splits)
    partial, counts = channels.partial_sums(1, count, inner, splits), cupy().empty(count, np.float64)
    tasks = channels.tasks(count, inner, splits)
    launch(FAMILY.kernel("inactive_counts<{T}>", y.dtype), tasks, y, partial, *shape)
    launch_rows(FAMILY.kernel("inactive_totals", y.dtype), count, partial, counts, *shape, threads=64)
    return counts
