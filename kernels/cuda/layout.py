"""How arrays of one shape lie in memory, as kernels are told: `layout` of layout.cuh."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

MOST_DIMENSIONS = 8


class TooManyDimensions(ValueError):
    """More than kernels walk along; the caller makes copies without gaps instead."""


def layout(*arrays: Any) -> Any:
    """A kernel's argument for arrays of one shape, or None where each of them fills its memory in the same order.

    Dimensions that follow on each other in every array become one, so that few are left to divide by.
    """
    first = arrays[0]
    if all([array.flags.c_contiguous for array in arrays]):
        return None
    item = [array.itemsize for array in arrays]
    steps = [
        (length, tuple([array.strides[axis] // size for array, size in zip(arrays, item, strict=True)]))
        for axis, length in enumerate(first.shape)
        if length != 1
    ]
    merged = _merged(tuple(sorted(steps, key=lambda step: abs(step[1][0]))))
    if not first.size or not merged or (len(merged) == 1 and set(merged[0][1]) == {1}):
        return None
    if len(merged) > MOST_DIMENSIONS:
        raise TooManyDimensions
    made = np.zeros((), _dtype(len(arrays)))
    made["count"], made["dimensions"] = first.size, len(merged)
    for k, (length, strides) in enumerate(merged):
        made["shape"][k] = length
        made["strides"][:, k] = strides
    return made


Steps = tuple[tuple[int, tuple[int, ...]], ...]


def _merged(steps: Steps) -> Steps:
    """The dimensions, the fastest first, those that go on where the one before ends made part of it."""
    found: list[tuple[int, tuple[int, ...]]] = []
    for length, strides in steps:
        if found and strides == tuple([found[-1][0] * stride for stride in found[-1][1]]):
            found[-1] = found[-1][0] * length, found[-1][1]
        else:
            found.append((length, strides))
    return tuple(found)


@functools.cache
def _dtype(arrays: int) -> np.dtype[Any]:
    return np.dtype(
        [
            ("count", np.int64),
            ("dimensions", np.int64),
            ("shape", np.int64, MOST_DIMENSIONS),
            ("strides", np.int64, (arrays, MOST_DIMENSIONS)),
        ]
    )
