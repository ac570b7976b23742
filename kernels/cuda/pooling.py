"""Pooling over planes of arrays (N, C, *spatial). Source: pooling.cu.

Windows, counts and bounds come from the host and are small: they are copied to the device, and kept there.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.kernels.cuda.compiler import Family, blocks_for, cupy, launch, launch_elements, launch_rows
from fastnn.kernels.cuda.uploads import there
from fastnn.windows import Axes, Bounds, Counts

Array = Any

FAMILY = Family(
    "pooling",
    "max_windows<{T}>",
    "max_regions<{T}>",
    "max_chains",
    "max_gather<{T}>",
    "average_windows<{T}>",
    "average_windows_backward<{T}>",
    "average_regions<{T}, false>",
    "average_regions<{T}, true>",
    "average_regions_backward<{T}>",
    "average_whole<{T}>",
    "average_whole_backward<{T}>",
)
_WINDOWS = np.dtype([("axis", np.int64, (3, 6))])  # `pool_windows` and `pool_regions` of pooling.cu
_REGIONS = np.dtype([("axis", np.int64, (3, 5))])
_WARP_FROM = 64  # elements of a region from which a warp takes it


def max_windows(x: Array, y: Array, where: Array | None, windows: Axes) -> None:
    """Maxima over windows, and their positions in the plane, int64, where wanted."""
    kernel = FAMILY.kernel("max_windows<{T}>", x.dtype)
    launch(kernel, blocks_for(y.size), x, y, where, y.size, _struct(_WINDOWS, windows))


def max_regions(x: Array, y: Array, where: Array | None, starts: Bounds, stops: Bounds) -> None:
    """Maxima over regions, and their positions in the plane, int64, where wanted."""
    bounds, regions = _regions(x, starts, stops)
    launch(FAMILY.kernel("max_regions<{T}>", x.dtype), blocks_for(y.size), x, y, where, bounds, y.size, regions)


def max_backward(dy: Array, where: Array, dx: Array) -> bool:
    """dx = 0, then dx[where] += dy, plane by plane, in order. A position outside of its plane is left out."""
    outputs, inputs = _plane(dy), _plane(dx)
    if max(outputs, inputs) >= 2**31:
        raise ValueError(f"a plane has {max(outputs, inputs)} elements; expected fewer than 2^31")
    heads, following = cupy().full(dx.size, -1, np.int32), cupy().empty(dy.size, np.int32)
    kernel = FAMILY.kernel("max_chains", dx.dtype)
    launch(kernel, blocks_for(dy.size), where, heads, following, dy.size, outputs, inputs)
    kernel = FAMILY.kernel("max_gather<{T}>", dx.dtype)
    launch(kernel, blocks_for(dx.size), dy, heads, following, dx, dx.size, outputs, inputs)
    return True


def inside(where: Array, size: int) -> bool:
    """True: whether all positions are in a plane of so many elements is not asked, for that would take waiting."""
    return True


def average_windows(x: Array, y: Array, windows: Axes, counts: Counts) -> None:
    """Averages over windows: sums divided by counts[0][d] * counts[1][h] * counts[2][w]."""
    _average("average_windows<{T}>", x, y, windows, counts)


def average_windows_backward(dy: Array, dx: Array, windows: Axes, counts: Counts) -> None:
    """The gradient of average_windows."""
    _average("average_windows_backward<{T}>", dy, dx, windows, counts)


def _average(kernel: str, source: Array, to: Array, windows: Axes, counts: Counts) -> None:
    divisors = np.concatenate(counts)
    shares = there(divisors if to.dtype == np.float64 else 1 / divisors)
    launch(
        FAMILY.kernel(kernel, to.dtype), blocks_for(to.size), source, to, shares, to.size, _struct(_WINDOWS, windows)
    )


def average_regions(x: Array, y: Array, starts: Bounds, stops: Bounds) -> None:
    """Averages over regions, the same for every plane."""
    bounds, regions = _regions(x, starts, stops)
    warps = _plane(x) >= _WARP_FROM * _plane(y)
    kernel = FAMILY.kernel(f"average_regions<{{T}}, {'true' if warps else 'false'}>", x.dtype)
    launch(kernel, blocks_for(y.size * (32 if warps else 1)), x, y, bounds, y.size, regions)


def average_regions_backward(dy: Array, dx: Array, starts: Bounds, stops: Bounds) -> None:
    """The gradient of average_regions."""
    bounds, regions = _regions(dx, starts, stops)
    kernel = FAMILY.kernel("average_regions_backward<{T}>", dx.dtype)
    launch(kernel, blocks_for(dx.size), dy, dx, bounds, dx.size, regions)


def average_whole(x: Array, y: Array) -> None:
    """The average of each plane of x."""
    n = x.size // y.size
    threads = 32 * max(1, min(16, n // 256))
    launch_rows(FAMILY.kernel("average_whole<{T}>", x.dtype), y.size, x, y, y.size, n, threads=threads)


def average_whole_backward(dy: Array, dx: Array) -> None:
    """The gradient of average_whole."""
    kernel = FAMILY.kernel("average_whole_backward<{T}>", dx.dtype)
    launch_elements(kernel, dx.size, dx.itemsize, dy, dx, dx.size, dx.size // dy.size)


def _plane(array: Array) -> int:
    return math.prod(array.shape[2:])


def _struct(dtype: np.dtype[Any], axes: npt.ArrayLike) -> Any:
    made = np.zeros((), dtype)
    made["axis"] = axes
    return made


def _regions(whole: Array, starts: Bounds, stops: Bounds) -> tuple[Array, Any]:
    """The bounds on the device, and where each axis's are there: one row for all planes, or one for each."""
    lengths = (1,) * (5 - whole.ndim) + whole.shape[2:]
    axes, at, size = [], 0, sum(start.size for start in starts)
    for length, start in zip(lengths, starts, strict=True):
        axes.append((length, start.shape[1], at, size + at, start.shape[1] if len(start) > 1 else 0))
        at += start.size
    return there(np.concatenate([each.ravel() for each in (*starts, *stops)])), _struct(_REGIONS, axes)
