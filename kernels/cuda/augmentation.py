"""Augmentation of batches of images (N, C, H, W). Source: augmentation.cu.

Where boxes, pieces and pixels lie may be said by arrays of the host's, which are copied to the device.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels.cuda.compiler import Family, blocks_for, launch, launch_rows, scalar
from fastnn.kernels.cuda.uploads import there

Array = Any

FAMILY = Family(
    "augmentation",
    "mix_samples<{T}>",
    "cutout_boxes<{T}>",
    "crop_images<{T}>",
    "warp_images<{T}>",
    "resize_images<{T}>",
)
_FRAME = np.dtype([(name, np.int64) for name in ("count", "channels", "height", "width", "rows", "columns")])
_PIECE = 8192  # elements of a sample that a block mixes


def mix(x: Array, permutation: Array, weights: Array, out: Array) -> None:
    """out[n] = weights[n] x[n] + (1 - weights[n]) x[permutation[n]]; out lies apart from x."""
    if x.size == 0:
        return
    inner = x.size // len(x)
    kernel, tasks = FAMILY.kernel("mix_samples<{T}>", x.dtype), len(x) * -(-inner // _PIECE)
    launch_rows(kernel, tasks, x, out, there(permutation), there(weights), len(x), inner, _PIECE)


def cutout(x: Array, out: Array, boxes: Array, fill: Array) -> None:
    """out = x (N, C, H, W), except `fill` in each sample's box (top, bottom, left, right); out may be x."""
    if out is not x:
        out[...] = x
    if x.size:
        planes, value = x.shape[0] * x.shape[1], _number(fill, x)
        kernel = FAMILY.kernel("cutout_boxes<{T}>", x.dtype)
        launch_rows(kernel, planes, out, there(boxes), planes, *x.shape[1:], value, threads=128)


def crop(x: Array, out: Array, places: Array, fill: Array) -> None:
    """out[n] = the piece of x[n] from row places[n, 0] and column places[n, 1] on, `fill` outside of the image;
    mirrored left to right where places[n, 2] is not 0."""
    kernel = FAMILY.kernel("crop_images<{T}>", x.dtype)
    launch(kernel, blocks_for(out.size), x, out, there(places), _frame(x, out), _number(fill, x))


def warp(x: Array, out: Array, maps: Array, fill: Array) -> None:
    """out[n] is looked up in x[n], between four pixels: see kernels/cpu/augmentation.pyx."""
    kernel = FAMILY.kernel("warp_images<{T}>", x.dtype)
    pixels = out.size // max(1, x.shape[1])
    launch(kernel, blocks_for(pixels), x, out, there(maps), _frame(x, out), _number(fill, x))


def resize(x: Array, out: Array, rows: Array, row_weights: Array, columns: Array, column_weights: Array) -> None:
    """Sums over boxes of pixels, weighted by row and column: see kernels/cpu/augmentation.pyx."""
    tables = map(there, (rows, row_weights, columns, column_weights))
    kernel, taps = FAMILY.kernel("resize_images<{T}>", x.dtype), (row_weights.shape[1], column_weights.shape[1])
    launch(kernel, blocks_for(out.size), x, out, *tables, _frame(x, out), *taps)


def _frame(x: Array, out: Array) -> Any:
    return np.array((out.size, *x.shape[1:], *out.shape[2:]), _FRAME)


def _number(fill: Array, x: Array) -> Any:
    """An element as kernels take it."""
    return scalar(fill, x.dtype)
