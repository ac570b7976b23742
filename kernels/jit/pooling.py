"""Pooling, compiled by Numba: the functions of kernels/cpu/pooling.pyx.

Windows are reduced row by row of x (pooling_rows.py). Sums are kept in float64. The 16-bit formats go through float32,
some planes at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from fastnn.kernels.jit.parallel import run_ranges
from fastnn.kernels.jit.pooling_rows import (
    OPTIONS,
    add_row,
    elements_inside,
    natural,
    raise_row,
    windows_with,
    windows_with_each,
)
from fastnn.windows import Axes, Bounds, Counts

Array = npt.NDArray[Any]

_PIECE = 1 << 16  # elements of the 16-bit formats that are widened at a time, at least a plane


# ---- loops over planes ----


@njit(**OPTIONS)
def _max_windows(x: Any, y: Any, where: Any, axes: Any) -> None:
    depth, d_out, d_kernel, d_stride, d_before, d_dilation = axes[0]
    height, h_out, h_kernel, h_stride, h_before, h_dilation = axes[1]
    width, w_out, _, w_stride, w_before, w_dilation = axes[2]
    flat, best = x.reshape(x.size), y.reshape(y.size)
    places = None if where is None else where.reshape(where.size)
    covering = windows_with_each(axes[2])
    for plane in range(len(x)):
        for od in range(d_out):
            d_first = od * d_stride - d_before
            d_begin, d_end = elements_inside(d_first, depth, d_kernel, d_dilation)
            for oh in range(h_out):
                h_first = oh * h_stride - h_before
                h_begin, h_end = elements_inside(h_first, height, h_kernel, h_dilation)
                to = ((plane * d_out + od) * h_out + oh) * w_out
                for o in range(w_out):
                    best[natural(to + o)] = -np.inf
                if places is not None:
                    top = (d_first + d_begin * d_dilation) * height + h_first + h_begin * h_dilation
                    for o in range(w_out):
                        w_first = o * w_stride - w_before
                        w_begin = 0 if w_first >= 0 else (w_dilation - 1 - w_first) // w_dilation
                        places[to + o] = top * width + w_first + w_begin * w_dilation
                for j in range(d_begin, d_end):
                    for i in range(h_begin, h_end):
                        at = ((d_first + j * d_dilation) * height + h_first + i * h_dilation) * width
                        from_ = plane * depth * height * width + at
                        raise_row(flat, from_, best, places, to, axes[2], covering, at)


@njit(**OPTIONS)
def _max_regions(x: Any, y: Any, where: Any, starts: Any, stops: Any, first: int) -> None:
    _, height, width = x.shape[1:]
    for plane in range(len(x)):
        d, h, w = (
            first + plane if len(starts[0]) > 1 else 0,
            first + plane if len(starts[1]) > 1 else 0,
            first + plane if len(starts[2]) > 1 else 0,
        )
        for od in range(y.shape[1]):
            for oh in range(y.shape[2]):
                for ow in range(y.shape[3]):
                    at = (starts[0][d, od] * height + starts[1][h, oh]) * width + starts[2][w, ow]
                    best = x[plane, starts[0][d, od], starts[1][h, oh], starts[2][w, ow]]
                    for j in range(starts[0][d, od], stops[0][d, od]):
                        for i in range(starts[1][h, oh], stops[1][h, oh]):
                            for k in range(starts[2][w, ow], stops[2][w, ow]):
                                v = x[plane, j, i, k]
                                if v > best or v != v:
                                    best = v
                                    at = (j * height + i) * width + k
                    y[plane, od, oh, ow] = best
                    if where is not None:
                        where[plane, od, oh, ow] = at


@njit(**OPTIONS)
def _max_backward(dy: Any, where: Any, dx: Any) -> bool:
    dx[:] = 0
    size = dx.shape[3]
    for plane in range(len(dx)):
        at, incoming, out = where[plane, 0, 0], dy[plane, 0, 0], dx[plane, 0, 0]
        for i in range(len(at)):
            if at[i] < 0 or at[i] >= size:
                return False
            out[natural(at[i])] += incoming[i]
    return True


@njit(**OPTIONS)
def _average_windows(x: Any, y: Any, axes: Any, counts: Any) -> None:
    depth, d_out, d_kernel, d_stride, d_before, d_dilation = axes[0]
    height, h_out, h_kernel, h_stride, h_before, h_dilation = axes[1]
    width, w_out = axes[2][:2]
    d_counts, h_counts, w_counts = counts
    total, flat, means = np.empty(w_out, np.float64), x.reshape(x.size), y.reshape(y.size)
    covering = windows_with_each(axes[2])
    for plane in range(len(x)):
        for od in range(d_out):
            d_first = od * d_stride - d_before
            d_begin, d_end = elements_inside(d_first, depth, d_kernel, d_dilation)
            for oh in range(h_out):
                h_first = oh * h_stride - h_before
                h_begin, h_end = elements_inside(h_first, height, h_kernel, h_dilation)
                to = ((plane * d_out + od) * h_out + oh) * w_out
                for o in range(w_out):
                    total[natural(o)] = 0
                for j in range(d_begin, d_end):
                    for i in range(h_begin, h_end):
                        row = (plane * depth + d_first + j * d_dilation) * height + h_first + i * h_dilation
                        add_row(flat, row * width, total, None, 0, axes[2], covering, 0)
                count = d_counts[od] * h_counts[oh]
                for o in range(w_out):
                    means[natural(to + o)] = total[natural(o)] / (count * w_counts[natural(o)])


@njit(**OPTIONS)
def _average_windows_backward(dy: Any, dx: Any, axes: Any, counts: Any) -> None:
    depth, d_out, d_kernel, d_stride, d_before, d_dilation = axes[0]
    height, h_out, h_kernel, h_stride, h_before, h_dilation = axes[1]
    width, w_out, w_kernel, w_stride, w_before, w_dilation = axes[2]
    total, share = np.empty(width, np.float64), np.empty(w_out, np.float64)
    for plane in range(len(dx)):
        for id_ in range(depth):
            for ih in range(height):
                share[:] = 0
                for j in range(d_kernel - 1, -1, -1):
                    at_d = id_ + d_before - j * d_dilation
                    if at_d < 0 or at_d % d_stride != 0 or at_d // d_stride >= d_out:
                        continue
                    od = at_d // d_stride
                    for i in range(h_kernel - 1, -1, -1):
                        at_h = ih + h_before - i * h_dilation
                        if at_h < 0 or at_h % h_stride != 0 or at_h // h_stride >= h_out:
                            continue
                        oh = at_h // h_stride
                        count = counts[0][od] * counts[1][oh]
                        row = dy[plane, od, oh]
                        for o in range(w_out):
                            share[natural(o)] += row[natural(o)] / (count * counts[2][natural(o)])
                total[:] = 0
                for k in range(w_kernel):
                    shift = k * w_dilation - w_before
                    low, high = windows_with(shift, w_stride, width, w_out)
                    for o in range(low, high):
                        total[natural(o * w_stride + shift)] += share[natural(o)]
                for o in range(width):
                    dx[plane, id_, ih, o] = total[o]


@njit(**OPTIONS)
def _average_regions(x: Any, y: Any, starts: Any, stops: Any) -> None:
    total = np.empty(x.shape[3], np.float64)
    for plane in range(len(x)):
        for od in range(y.shape[1]):
            for oh in range(y.shape[2]):
                total[:] = 0
                for j in range(starts[0][0, od], stops[0][0, od]):
                    for i in range(starts[1][0, oh], stops[1][0, oh]):
                        row = x[plane, j, i]
                        for k in range(len(row)):
                            total[k] += row[k]
                rows = (stops[0][0, od] - starts[0][0, od]) * (stops[1][0, oh] - starts[1][0, oh])
                for ow in range(y.shape[3]):
                    start, stop = starts[2][0, ow], stops[2][0, ow]
                    y[plane, od, oh, ow] = np.sum(total[start:stop]) / (rows * (stop - start))


@njit(**OPTIONS)
def _average_regions_backward(dy: Any, dx: Any, starts: Any, stops: Any) -> None:
    _, depth, height, width = dx.shape
    total = np.empty(width, np.float64)
    for plane in range(len(dx)):
        for id_ in range(depth):
            for ih in range(height):
                total[:] = 0
                for od in range(dy.shape[1]):
                    if id_ < starts[0][0, od] or id_ >= stops[0][0, od]:
                        continue
                    for oh in range(dy.shape[2]):
                        if ih < starts[1][0, oh] or ih >= stops[1][0, oh]:
                            continue
                        rows = (stops[0][0, od] - starts[0][0, od]) * (stops[1][0, oh] - starts[1][0, oh])
                        for ow in range(dy.shape[3]):
                            start, stop = starts[2][0, ow], stops[2][0, ow]
                            share = dy[plane, od, oh, ow] / np.float64(rows * (stop - start))
                            for k in range(start, stop):
                                total[k] += share
                for k in range(width):
                    dx[plane, id_, ih, k] = total[k]


@njit(**OPTIONS)
def _average_whole(x: Any, y: Any) -> None:
    size = x.shape[3]
    lanes = np.empty(16, np.float64)
    for plane in range(len(x)):
        row = x[plane, 0, 0]
        lanes[:] = 0
        even = size - size % 16
        for begin in range(0, even, 16):
            for k in range(16):
                lanes[k] += row[natural(begin + k)]
        total = np.sum(lanes)
        for i in range(even, size):
            total += row[i]
        y[plane] = total / size


@njit(**OPTIONS)
def _average_whole_backward(dy: Any, dx: Any) -> None:
    for plane in range(len(dx)):
        dx[plane] = np.float64(dy[plane, 0, 0, 0]) / dx.shape[3]


# ---- planes in threads, and in pieces ----


def _piecewise(source: Array, result: Array, loop: Callable[[Array, Array, slice], None]) -> None:
    """Run a loop over planes of both arrays, on several threads: the 16-bit formats as float32, some planes at once."""
    count = source.shape[0] * source.shape[1]
    size = max(source.size, result.size) // count
    source, result = _planes(source), _planes(result)

    def some(begin: int, end: int) -> None:
        planes = slice(-(-begin // size), -(-end // size))
        if source.itemsize > 2:
            loop(source[planes], result[planes], planes)
            return
        step = max(1, _PIECE // size)
        for first in range(planes.start, planes.stop, step):
            part = slice(first, min(first + step, planes.stop))
            wide = np.empty((part.stop - part.start, *result.shape[1:]), np.float32)
            with np.errstate(all="ignore"):
                loop(source[part].astype(np.float32), wide, part)
                result[part] = wide

    run_ranges(size * count, some)


def _planes(array: Array) -> Array:
    """(N, C, *spatial) as (planes, depth, height, width)."""
    shape = array.shape
    return array.reshape(shape[0] * shape[1], *(1,) * (5 - len(shape)), *shape[2:])


def _flat(array: Array) -> Array:
    """(N, C, *spatial) as one plane."""
    return array.reshape(*array.shape[:2], -1)


def _tuples(windows: Axes) -> Any:
    return tuple(map(tuple, windows.tolist()))


# ---- what the backends have in common ----


def max_windows(x: Array, y: Array, where: Array | None, windows: Axes) -> None:
    """Maxima over windows, and their positions in the plane, int64, where wanted."""
    places, axes = None if where is None else _planes(where), _tuples(windows)
    _piecewise(x, y, lambda a, b, p: _max_windows(a, b, None if places is None else places[p], axes))


def max_regions(x: Array, y: Array, where: Array | None, starts: Bounds, stops: Bounds) -> None:
    """Maxima over regions, and their positions in the plane, int64, where wanted."""
    places = None if where is None else _planes(where)
    _piecewise(x, y, lambda a, b, p: _max_regions(a, b, None if places is None else places[p], starts, stops, p.start))


def max_backward(dy: Array, where: Array, dx: Array) -> bool:
    """dx = 0, then dx[where] += dy, plane by plane. False if a position is outside of its plane."""
    places, fine = _planes(_flat(where)), []
    _piecewise(_flat(dy), _flat(dx), lambda a, b, p: fine.append(_max_backward(a, places[p], b)))
    return all(fine)


def inside(where: Array, size: int) -> bool:
    """Are all positions in a plane of so many elements?"""
    return bool(where.min() >= 0 and where.max() < size)


def average_windows(x: Array, y: Array, windows: Axes, counts: Counts) -> None:
    """Averages over windows: sums divided by counts[0][d] * counts[1][h] * counts[2][w]."""
    axes = _tuples(windows)
    _piecewise(x, y, lambda a, b, _: _average_windows(a, b, axes, counts))


def average_windows_backward(dy: Array, dx: Array, windows: Axes, counts: Counts) -> None:
    """The gradient of average_windows."""
    axes = _tuples(windows)
    _piecewise(dy, dx, lambda a, b, _: _average_windows_backward(a, b, axes, counts))


def average_regions(x: Array, y: Array, starts: Bounds, stops: Bounds) -> None:
    """Averages over regions, the same for every plane."""
    _piecewise(x, y, lambda a, b, _: _average_regions(a, b, starts, stops))


def average_regions_backward(dy: Array, dx: Array, starts: Bounds, stops: Bounds) -> None:
    """The gradient of average_regions."""
    _piecewise(dy, dx, lambda a, b, _: _average_regions_backward(a, b, starts, stops))


def average_whole(x: Array, y: Array) -> None:
    """The average of each plane of x."""
    _piecewise(_flat(x), y.reshape(*x.shape[:2], 1), lambda a, b, _: _average_whole(a, b))


def average_whole_backward(dy: Array, dx: Array) -> None:
    """The gradient of average_whole."""
    _piecewise(dy.reshape(*dx.shape[:2], 1), _flat(dx), lambda a, b, _: _average_whole_backward(a, b))
