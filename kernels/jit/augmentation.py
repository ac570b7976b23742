"""Augmentation, compiled by Numba: the functions of kernels/cpu/augmentation.pyx."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from fastnn.kernels.jit.intrinsics import fmadd
from fastnn.kernels.jit.parallel import run_ranges

Array = npt.NDArray[Any]

_OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy", "boundscheck": False}


@njit(**_OPTIONS)
def _mix(a: Any, b: Any, out: Any, weight: Any, rest: Any) -> None:
    for i in range(out.size):
        out[i] = fmadd(weight, a[i], rest * b[i])


@njit(**_OPTIONS)
def _cutout(x: Any, out: Any, boxes: Any, fill: Any) -> None:
    for n in range(len(out)):
        top, bottom, left, right = boxes[n]
        for c in range(out.shape[1]):
            for row in range(out.shape[2]):
                for column in range(out.shape[3]):
                    inside = top <= row < bottom and left <= column < right
                    out[n, c, row, column] = fill[0] if inside else x[n, c, row, column]


@njit(**_OPTIONS)
def _crop(x: Any, out: Any, places: Any, fill: Any) -> None:
    samples, channels, rows, columns = out.shape
    for n in range(samples):
        top, left, flip = places[n]
        for c in range(channels):
            for row in range(rows):
                for column in range(columns):
                    i, j = row + top, (columns - 1 - column if flip else column) + left
                    inside = 0 <= i < x.shape[2] and 0 <= j < x.shape[3]
                    out[n, c, row, column] = x[n, c, i, j] if inside else fill[0]


@njit(**_OPTIONS)
def _pixel(x: Any, row: Any, column: Any, fill: Any) -> Any:
    return x[row, column] if 0 <= row < x.shape[0] and 0 <= column < x.shape[1] else fill


@njit(**_OPTIONS)
def _warp(x: Any, out: Any, maps: Any, fill: Any) -> None:
    samples, channels, rows, columns = out.shape
    height, width = x.shape[2:]
    weights = np.empty(2, x.dtype)
    for n in range(samples):
        a, b, c, d, e, f, k = maps[n]
        for row in range(rows):
            for column in range(columns):
                u, v = column - (columns - 1) / 2, row - (rows - 1) / 2
                stretch = 1 + k * (u * u + v * v)
                across = min(max((a * u + b * v) * stretch + e, -1.0), float(width))
                along = min(max((c * u + d * v) * stretch + f, -1.0), float(height))
                left, top = int(np.floor(across)), int(np.floor(along))
                weights[0], weights[1] = across - left, along - top  # rounded to the dtype that is computed in
                for channel in range(channels):
                    plane = x[n, channel]
                    upper, lower = _pixel(plane, top, left, fill[0]), _pixel(plane, top + 1, left, fill[0])
                    upper += weights[0] * (_pixel(plane, top, left + 1, fill[0]) - upper)
                    lower += weights[0] * (_pixel(plane, top + 1, left + 1, fill[0]) - lower)
                    out[n, channel, row, column] = upper + weights[1] * (lower - upper)


@njit(**_OPTIONS)
def _resize(x: Any, out: Any, rows: Any, row_weights: Any, columns: Any, column_weights: Any) -> None:
    scratch = np.empty((x.shape[2], out.shape[3]), x.dtype)
    row_taps, column_taps = row_weights.shape[1], column_weights.shape[1]
    for n in range(out.shape[0]):
        for c in range(out.shape[1]):
            for i in range(rows[n, 0], rows[n, -1] + row_taps):
                for j in range(out.shape[3]):
                    total = column_weights[n, 0, j] * x[n, c, i, columns[n, j]]
                    for tap in range(1, column_taps):
                        total += column_weights[n, tap, j] * x[n, c, i, columns[n, j] + tap]
                    scratch[i, j] = total
            for i in range(out.shape[2]):
                for j in range(out.shape[3]):
                    total = row_weights[n, 0, i] * scratch[rows[n, i], j]
                    for tap in range(1, row_taps):
                        total += row_weights[n, tap, i] * scratch[rows[n, i] + tap, j]
                    out[n, c, i, j] = total


def mix(x: Array, permutation: Array, weights: Array, out: Array) -> None:
    """out[n] = weights[n] x[n] + (1 - weights[n]) x[permutation[n]]; out lies apart from x."""
    rows = x.reshape(len(x), -1) if x.size else x.reshape(len(x), 0)
    target = out.reshape(rows.shape)

    def share(begin: int, end: int) -> None:
        for n in range(begin, end):
            a, b, y = rows[n], rows[permutation[n]], target[n]
            if x.itemsize > 2:
                _mix(a, b, y, weights[n], 1 - weights[n])
            else:
                result = np.empty(y.shape, np.float32)
                _mix(a.astype(np.float32), b.astype(np.float32), result, weights[n], 1 - weights[n])
                y[...] = result

    run_ranges(len(rows), share, rows.shape[1])


def cutout(x: Array, out: Array, boxes: Array, fill: Array) -> None:
    """out = x (N, C, H, W), except `fill` in each sample's box (top, bottom, left, right); out may be x."""
    source, target, value = (
        (array.view(np.uint16) if array.itemsize == 2 else array) for array in (x, out, fill.reshape(1))
    )
    run_ranges(
        len(out),
        lambda begin, end: _cutout(source[begin:end], target[begin:end], boxes[begin:end], value),
        out[:1].size,
    )


def crop(x: Array, out: Array, places: Array, fill: Array) -> None:
    """out[n] = the piece of x[n] from row places[n, 0] and column places[n, 1] on, `fill` outside of the image;
    mirrored left to right where places[n, 2] is not 0."""
    run_ranges(
        len(out),
        lambda begin, end: _crop(x[begin:end], out[begin:end], places[begin:end], fill.reshape(1)),
        out[:1].size,
    )


def warp(x: Array, out: Array, maps: Array, fill: Array) -> None:
    """out[n] is looked up in x[n], between four pixels: see kernels/cpu/augmentation.pyx."""
    run_ranges(
        len(out),
        lambda begin, end: _warp(x[begin:end], out[begin:end], maps[begin:end], fill.reshape(1)),
        out[:1].size,
    )


def resize(x: Array, out: Array, rows: Array, row_weights: Array, columns: Array, column_weights: Array) -> None:
    """Sums over boxes of pixels, weighted by row and column: see kernels/cpu/augmentation.pyx."""

    def share(begin: int, end: int) -> None:
        part = slice(begin, end)
        _resize(x[part], out[part], rows[part], row_weights[part], columns[part], column_weights[part])

    run_ranges(len(out), share, out[:1].size)
