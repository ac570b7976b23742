"""The 16-bit formats through float32, some planes at a time: for kernels whose loops over float do all the work.

A few planes are widened, computed and rounded while they are in the second-level cache. Scratch memory is 1 MiB, or one
plane of the input and one of the result where those are larger. Rejected: loops of their own for each format, which
make up half of a family's code and are no faster where a loop is more than a copy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.kernels.cpu.linear import _store, _widen

Array = npt.NDArray[Any]
_ROOM = 1 << 18  # elements of float32


def by_planes(
    kernel: Callable[..., object], x: Array, y: Array, others: tuple[Array | None, ...], *options: Any
) -> None:
    """`kernel(x, y, *others, *options)` for contiguous arrays of planes (N, C, *spatial): x and y in a 16-bit format.

    others: further results, of y's shape; options: what holds for every plane
    """
    planes = x.shape[0] * x.shape[1]
    flat = [array.reshape(planes, math.prod(array.shape[2:])) for array in (x, y)]
    step = min(planes, max(1, _ROOM // (flat[0].shape[1] + flat[1].shape[1])))
    wide = [np.empty((step, array.shape[1]), np.float32) for array in flat]
    for begin in range(0, planes, step):
        count = min(step, planes - begin)
        (source, to), (a, b) = (array[begin : begin + count] for array in flat), (array[:count] for array in wide)
        _widen(source, a)
        parts = (
            None if other is None else other.reshape(1, planes, *y.shape[2:])[:, begin : begin + count]
            for other in others
        )
        kernel(a.reshape(1, count, *x.shape[2:]), b.reshape(1, count, *y.shape[2:]), *parts, *options)
        _store(b, to, False)
