"""NumPy's pooling: the maximum or the sum of shifted views, axis by axis; regions as matrix products."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from ...problems.base import Array, Buffers
from ...timing import Run
from ..base import Factory


def views(padded: Array, b: Buffers, out: tuple[int, ...]) -> Iterator[Array]:
    """For each element of the window, in order, what all windows have there."""
    step = b.get("stride") or b.kernel_size
    for place in itertools.product(range(b.kernel_size), repeat=len(out)):
        parts = (slice(at, at + step * size, step) for at, size in zip(place, out, strict=True))
        yield padded[(slice(None), slice(None), *parts)]


def bordered(x: Array, b: Buffers, border: float, out: tuple[int, ...]) -> tuple[Array, Array]:
    """An array with a border around it, as far as the windows reach, and its inside."""
    pad, step = b.get("padding", 0), b.get("stride") or b.kernel_size
    if not pad:
        return x, x
    sizes = (max(n + 2 * pad, (m - 1) * step + b.kernel_size) for n, m in zip(x.shape[2:], out, strict=True))
    whole = np.full((*x.shape[:2], *sizes), border, x.dtype)
    return whole, whole[(slice(None), slice(None), *(slice(pad, pad + n) for n in x.shape[2:]))]


def pooled(b: Buffers, join: np.ufunc, border: float, factor: float) -> Run:
    """Axis by axis, so that only the last one is gone through with a stride."""
    x, y = b.x, b.out
    whole, inside = bordered(x, b, border, y.shape[2:])
    step = b.get("stride") or b.kernel_size
    stages: list[tuple[list[Array], Array]] = []
    source = whole
    for axis in range(2, x.ndim):
        size = y.shape[axis]
        last = axis == x.ndim - 1
        into = y if last else np.empty((*source.shape[:axis], size, *source.shape[axis + 1 :]), x.dtype)
        ahead = (slice(None),) * axis
        stages.append(([source[(*ahead, slice(at, at + step * size, step))] for at in range(b.kernel_size)], into))
        source = into

    def run() -> Any:
        if inside is not x:
            inside[...] = x
        for (first, second, *rest), into in stages:
            join(first, second, out=into)
            for part in rest:
                join(into, part, out=into)
        return y if factor == 1 else np.multiply(y, y.dtype.type(factor), out=y)

    return run


def maximum(b: Buffers) -> Run:
    return pooled(b, np.maximum, -math.inf, 1)


def average(b: Buffers) -> Run:
    return pooled(b, np.add, 0, b.kernel_size ** (2.0 - b.x.ndim))


def maximum_backward(b: Buffers) -> Run:
    """Where windows do not overlap each index occurs once and is assigned to; else bincount adds."""
    dy, dx = b.dy, b.out
    planes, size = math.prod(b.x_shape[:2]), math.prod(b.x_shape[2:])
    flat = (b.indices.reshape(planes, -1) + size * np.arange(planes)[:, None]).ravel()
    kernel = b.get("kernel_size", 0)  # fractional regions overlap
    apart = kernel > 0 and (b.get("stride") or kernel) >= kernel

    def assign() -> Any:
        dx.fill(0)
        dx.reshape(-1)[flat] = dy.reshape(-1)
        return dx

    def add() -> Any:
        dx.reshape(-1)[:] = np.bincount(flat, dy.reshape(-1), planes * size)
        return dx

    return assign if apart else add


def average_backward(b: Buffers) -> Run:
    dy, dx = b.dy, b.out
    whole, inside = bordered(dx, b, 0, dy.shape[2:])
    parts = list(views(whole, b, dy.shape[2:]))
    share = np.empty_like(dy)
    factor = dy.dtype.type(b.kernel_size ** (2.0 - dy.ndim))
    apart = (b.get("stride") or b.kernel_size) >= b.kernel_size

    def run() -> Any:
        np.multiply(dy, factor, out=share)
        if not apart or dx.shape[2:] != tuple(n * b.kernel_size for n in dy.shape[2:]):
            whole.fill(0)
        for part in parts:
            if apart:
                np.copyto(part, share)
            else:
                np.add(part, share, out=part)
        if inside is not dx:
            np.copyto(dx, inside)
        return dx

    return run


def regions(n: int, size: int) -> Array:
    """A matrix whose rows average the regions of adaptive pooling along one axis."""
    matrix = np.zeros((size, n))
    for row in range(size):
        begin, end = row * n // size, -(-(row + 1) * n // size)
        matrix[row, begin:end] = 1 / (end - begin)
    return matrix


def adaptive(x: Array, y: Array, backward: bool = False) -> Run:
    """One matrix product an axis: regions are boxes, so their averages separate."""
    large, small = (y.shape[2:], x.shape[2:]) if backward else (x.shape[2:], y.shape[2:])
    matrices = [
        (matrix.T if backward else matrix).astype(x.dtype)
        for matrix in (regions(n, size) for n, size in zip(large, small, strict=True))
    ]

    def run() -> Any:
        work = x
        for axis, matrix in enumerate(matrices, 2):
            if axis == x.ndim - 1:
                return np.matmul(work, matrix.T, out=y)
            flat = work.reshape(math.prod(work.shape[:axis]), work.shape[axis], -1)
            work = np.matmul(matrix, flat).reshape(*work.shape[:axis], len(matrix), *work.shape[axis + 1 :])
        return work

    return run


def whole_backward(b: Buffers) -> Run:
    dx, factor = b.out, b.dy.dtype.type(1 / math.prod(b.x_shape[2:]))
    spread = (*b.dy.shape, *(1,) * (dx.ndim - 2))

    def run() -> Any:
        np.copyto(dx, (b.dy * factor).reshape(spread))
        return dx

    return run


FACTORIES: dict[str, Factory] = {
    "global_avg_pool": lambda b: partial(np.mean, b.x, axis=tuple(range(2, b.x.ndim)), out=b.out),
    "global_avg_pool_backward": whole_backward,
    "fractional_max_pool2d_backward": maximum_backward,
}
for _dims in "123":
    FACTORIES |= {
        f"max_pool{_dims}d": maximum,
        f"max_pool{_dims}d_backward": maximum_backward,
        f"avg_pool{_dims}d": average,
        f"avg_pool{_dims}d_backward": average_backward,
        f"adaptive_avg_pool{_dims}d": lambda b: adaptive(b.x, b.out),
        f"adaptive_avg_pool{_dims}d_backward": lambda b: adaptive(b.dy, b.out, backward=True),
    }
