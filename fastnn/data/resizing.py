"""Resizing batches of images, or a box of each."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.arguments import plain, receiver, stored
from fastnn.data.transform import check_images
from fastnn.dispatch import host_implementation

Array = npt.NDArray[Any]


def resize(x: Array, size: tuple[int, int], *, out: Array | None = None) -> Array:
    """Resize images (N, C, H, W) of float32 or float64 to (N, C, *size), bilinearly.

    Where an axis shrinks, a pixel is the average over a triangle as wide as two of the new pixels: no aliasing. This is
    Pillow's BILINEAR, and PyTorch's `interpolate(mode="bilinear", antialias=True)`.
    """
    check_images("resize", x)
    shape = (*x.shape[:2], *size)
    if min(size) < 1 or min(x.shape[2:]) < 1:
        raise ValueError(f"resize: size is {size} and x has shape {x.shape}; expected sides of at least 1")
    if out is None:
        out = np.empty(shape, x.dtype)
    elif out.shape != shape or out.dtype != x.dtype:
        raise ValueError(f"resize: out is {out.dtype}{out.shape}; expected {x.dtype}{shape}")
    rows, columns = (np.array([[0.0, length]]) for length in x.shape[2:])
    resize_boxes(x, rows, columns, out)
    return out


def resize_boxes(x: Array, rows: Array, columns: Array, out: Array) -> None:
    """Fill `out` (N, C, h, w) with a box of each image, resized.

    rows, columns: arrays (N, 2), or (1, 2) for all alike: where the box begins, and its length, in pixels of x.
    """
    parts = []
    for spans, length, size in ((rows, x.shape[2], out.shape[2]), (columns, x.shape[3], out.shape[3])):
        starts, weights = _weights(spans, length, size)
        parts += [
            np.ascontiguousarray(np.broadcast_to(array.astype(dtype), (len(x), *array.shape[1:])))
            for array, dtype in ((starts, np.int32), (weights, x.dtype))
        ]
    y = receiver(out, out.shape, out.dtype, out)
    host_implementation("augmentation").resize(plain(x), y, *parts)
    stored(y, out)


def _weights(spans: Array, length: int, size: int) -> tuple[Array, Array]:
    """For each span the first pixel that a new one is made of (N, size), and weights (N, taps, size), of sum 1.

    The weight of a pixel falls linearly with the distance between its centre and the new one's.
    """
    step = spans[:, 1:] / size  # old pixels for a new one
    reach = np.maximum(step, 1)
    center = spans[:, :1] + (np.arange(size) + 0.5) * step
    taps = min(length, int(np.ceil(2 * reach.max(initial=1))) + 1)
    starts = np.clip(np.floor(center - reach), 0, length - taps)
    distance = np.abs(starts[:, None] + (np.arange(taps) + 0.5)[:, None] - center[:, None])
    weights = np.maximum(1 - distance / reach[:, None], 0)
    return starts, weights / weights.sum(axis=1, keepdims=True)
