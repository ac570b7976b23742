"""What the family `pooling` computes, in plain NumPy: for its oracles and the reference backend.

Arrays are (planes, depth, height, width), of any float dtype, which is kept.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastnn import generator
from fastnn.windows import Axes, Bounds, Counts

# ---- formulas: windows of equal sizes ----


def _elements(axes: Axes) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """For element k of all windows at once: index arrays of its places, and which of them lie inside."""
    for element in itertools.product(*(range(kernel) for _, _, kernel, _, _, _ in axes)):
        places, inside = [], []
        for axis, (k, (length, out, _, stride, before, dilation)) in enumerate(zip(element, axes, strict=True)):
            at = np.arange(out) * stride - before + k * dilation
            shape = [-1 if i == axis else 1 for i in range(3)]
            inside.append(((at >= 0) & (at < length)).reshape(shape))
            places.append(np.clip(at, 0, length - 1).reshape(shape))
        yield tuple(places), tuple(inside)


def max_windows(x: Any, axes: Axes) -> tuple[Any, Any]:
    """The maxima, and their positions in the plane: of NaN the last, else the first of equal ones."""
    found: Any = None
    where: Any = None
    for (d, h, w), inside in _elements(axes):
        value, at = x[:, d, h, w], (d * axes[1][0] + h) * axes[2][0] + w
        valid = np.broadcast_to(inside[0] & inside[1] & inside[2], value.shape[1:])
        at = np.broadcast_to(at, value.shape[1:])
        if found is None:
            found, where = np.full_like(value, -np.inf), np.full(value.shape, -1)
        takes = valid & ((where < 0) | (value > found) | (value != value))
        found, where = np.where(takes, value, found), np.where(takes, at, where)
    return found, where


def max_backward(dy: Any, where: Any, shape: tuple[int, ...]) -> Any:
    """The gradient of maxima, by their positions, for arrays (planes, ...) of that shape."""
    planes = shape[0]
    dx = np.zeros((planes, math.prod(shape[1:])), dy.dtype)
    np.add.at(dx, (np.arange(planes)[:, None], where.reshape(planes, -1)), dy.reshape(planes, -1))
    return dx.reshape(shape)


def _divisor(counts: Counts) -> Any:
    return counts[0][:, None, None] * counts[1][:, None] * counts[2]


def average_windows(x: Any, axes: Axes, counts: Counts) -> Any:
    """The sums of the windows, divided by the products of counts."""
    total = np.zeros((len(x), *(axis[1] for axis in axes)), x.dtype)
    for (d, h, w), inside in _elements(axes):
        total += np.where(inside[0] & inside[1] & inside[2], x[:, d, h, w], 0)
    return total / _divisor(counts).astype(x.dtype)


def average_windows_backward(dy: Any, axes: Axes, counts: Counts) -> Any:
    """The gradient of average_windows."""
    dx = np.zeros((len(dy), *(axis[0] for axis in axes)), dy.dtype)
    share = dy / _divisor(counts).astype(dy.dtype)
    for (d, h, w), inside in _elements(axes):
        where: Any = (slice(None), d, h, w)
        np.add.at(dx, where, np.where(inside[0] & inside[1] & inside[2], share, 0))
    return dx


# ---- formulas: regions ----


def max_regions(x: Any, starts: Bounds, stops: Bounds) -> tuple[Any, Any]:
    """As max_windows, for regions [start, stop) of every axis, of all planes or of each."""
    found: Any = None
    where: Any = None
    plane = np.arange(len(x)).reshape(-1, 1, 1, 1)
    longest = [int((stop - start).max()) for start, stop in zip(starts, stops, strict=True)]
    for element in itertools.product(*map(range, longest)):
        d, h, w = (
            np.minimum(start + k, stop - 1).reshape(len(start), *(-1 if i == axis else 1 for i in range(3)))
            for axis, (k, start, stop) in enumerate(zip(element, starts, stops, strict=True))
        )
        value, at = x[plane, d, h, w], (d * x.shape[2] + h) * x.shape[3] + w
        if found is None:
            found, where = value, np.broadcast_to(at, value.shape)
        takes = (value > found) | (value != value)
        found, where = np.where(takes, value, found), np.where(takes, at, where)
    return found, where


def average_regions(x: Any, starts: Bounds, stops: Bounds) -> Any:
    """The average of every region."""
    for axis, (start, stop) in enumerate(zip(starts, stops, strict=True), 1):
        parts = [x.take(range(a, b), axis).mean(axis) for a, b in zip(start[0], stop[0], strict=True)]
        x = np.stack(parts, axis)
    return x


def average_regions_backward(dy: Any, starts: Bounds, stops: Bounds, shape: tuple[int, ...]) -> Any:
    """The gradient of average_regions."""
    for axis, (start, stop) in enumerate(zip(starts, stops, strict=True), 1):
        dx = np.zeros((*dy.shape[:axis], shape[axis], *dy.shape[axis + 1 :]), dy.dtype)
        for o, (a, b) in enumerate(zip(start[0], stop[0], strict=True)):
            dx[(slice(None),) * axis + (slice(a, b),)] += dy.take([o], axis) / dy.dtype.type(b - a)
        dy = dx
    return dy


# ---- where the regions of fractional pooling begin ----

SHARED = ("channel", "sample", "batch")


def fractional_bounds(
    leading: tuple[int, int],
    spatial: tuple[int, ...],
    output: tuple[int, ...],
    seed: int,
    offset: int,
    pseudo_random: bool,
    overlapping: bool,
    shared: str,
) -> tuple[Bounds, Bounds]:
    """The regions of each plane: `starts` and `stops` for depth, height and width.

    A draw is numbered by the sample and channel it is for (0 where they share it); draw i uses the Philox blocks from
    i b on, b = 1 for pseudo-random regions, else the blocks that hold one word for every region of each axis.
    """
    samples, channels = leading
    draws = {"channel": samples * channels, "sample": samples, "batch": 1}[shared]
    words_each = 4 if pseudo_random else -(-sum(output) // 4) * 4
    words = generator.blocks(0, draws * (words_each // 4), seed, offset).reshape(draws, words_each).astype(np.int64)
    planes = np.arange(samples * channels)
    plane_draw = {"channel": planes, "sample": planes // max(channels, 1), "batch": planes * 0}[shared]
    starts = [np.zeros((1, 1), np.int64)] * (3 - len(spatial))
    stops = [np.ones((1, 1), np.int64)] * (3 - len(spatial))
    used = 0
    for axis, (length, out) in enumerate(zip(spatial, output, strict=True)):
        if pseudo_random:
            # floor(a i + u) with a = length / out; all that counts of u is floor(u out), drawn here.
            edges = (np.arange(out + 1) * length + (words[:, axis, None] * out >> 32)) // out
        else:
            short, longer = divmod(length, out)  # `longer` of the regions have an element more
            order = np.argsort(np.argsort(words[:, used : used + out], axis=1, kind="stable"), axis=1)
            edges = np.zeros((draws, out + 1), np.int64)
            np.cumsum(short + (order < longer), axis=1, out=edges[:, 1:])
            used += out
        edges = edges[plane_draw]
        starts.append(np.ascontiguousarray(edges[:, :-1]))
        stops.append(np.minimum(edges[:, 1:] + overlapping, length))
    return tuple(starts), tuple(stops)
