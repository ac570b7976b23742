"""Augmentation in plain NumPy: float64, rounded once to float32 and from that to the 16-bit formats."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.kernels.reference.rounding import store, widen

Array = npt.NDArray[Any]


def mix(x: Array, permutation: Array, weights: Array, out: Array) -> None:
    """out[n] = weights[n] x[n] + (1 - weights[n]) x[permutation[n]]; out lies apart from x."""
    weight = weights.astype(np.float64).reshape(-1, *(1,) * (x.ndim - 1))
    with np.errstate(all="ignore"):
        wide = widen(x)
        store(weight * wide + (1 - weight) * wide[permutation], out)


def cutout(x: Array, out: Array, boxes: Array, fill: Array) -> None:
    """out = x (N, C, H, W), except `fill` in each sample's box (top, bottom, left, right); out may be x."""
    out[...] = x
    for image, (top, bottom, left, right) in zip(out, boxes, strict=True):
        image[:, top:bottom, left:right] = fill


def crop(x: Array, out: Array, places: Array, fill: Array) -> None:
    """out[n] = the piece of x[n] from row places[n, 0] and column places[n, 1] on, `fill` outside of the image;
    mirrored left to right where places[n, 2] is not 0."""
    rows, columns = out.shape[2:]
    out[...] = fill
    for image, target, (top, left, flip) in zip(x, out, places.tolist(), strict=True):
        piece = image[:, max(top, 0) : max(top + rows, 0), max(left, 0) : max(left + columns, 0)]
        view = target[:, :, ::-1] if flip else target
        row, column = max(-top, 0), max(-left, 0)
        view[:, row : row + piece.shape[1], column : column + piece.shape[2]] = piece


def warp(x: Array, out: Array, maps: Array, fill: Array) -> None:
    """out[n] is looked up in x[n], between four pixels: see kernels/cpu/augmentation.pyx."""
    n, channels, height, width = x.shape
    rows, columns = out.shape[2:]
    u, v = np.arange(columns) - (columns - 1) / 2, (np.arange(rows) - (rows - 1) / 2)[:, None]
    a, b, c, d, e, f, k = maps.T[:, :, None, None]
    stretch = 1 + k * (u**2 + v**2)
    # A border of `fill` all around, and channels last: the four neighbours are rows of one table.
    table = np.full((n, height + 3, width + 3, channels), fill, x.dtype)
    table[:, 1:-2, 1:-2] = np.moveaxis(x, 1, 3)
    across = np.clip((a * u + b * v) * stretch + e, -1, width) + 1
    along = np.clip((c * u + d * v) * stretch + f, -1, height) + 1
    left, top = across.astype(np.intp), along.astype(np.intp)
    right, down = (across - left)[..., None].astype(x.dtype), (along - top)[..., None].astype(x.dtype)
    index = (np.arange(n)[:, None, None] * (height + 3) + top) * (width + 3) + left
    flat = table.reshape(-1, channels)

    def row(first: Array) -> Array:
        return np.asarray(flat[first] + right * (flat[first + 1] - flat[first]))

    above, below = row(index), row(index + (width + 3))
    out[...] = np.moveaxis(above + down * (below - above), 3, 1)


def resize(x: Array, out: Array, rows: Array, row_weights: Array, columns: Array, column_weights: Array) -> None:
    """Sums over boxes of pixels, weighted by row and column: see kernels/cpu/augmentation.pyx."""
    across = sum(
        weight[:, None, None] * np.take_along_axis(x, (columns + tap)[:, None, None], axis=3)
        for tap, weight in enumerate(column_weights.swapaxes(0, 1))
    )
    out[...] = sum(
        weight[:, None, :, None] * np.take_along_axis(np.asarray(across), (rows + tap)[:, None, :, None], axis=2)
        for tap, weight in enumerate(row_weights.swapaxes(0, 1))
    )
