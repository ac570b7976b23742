"""Resizing batches of images, or a box of each, by products with two matrices of weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.data.transform import check_images

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
    down = _weights(rows, x.shape[2], out.shape[2]).astype(x.dtype)[:, None]
    across = _weights(columns, x.shape[3], out.shape[3]).astype(x.dtype)[:, None]
    np.matmul(down @ x, across.swapaxes(2, 3), out=out)


def _weights(spans: Array, length: int, size: int) -> Array:
    """For each span the matrix (size, length) of weights, whose rows add up to 1.

    The weight of pixel j in the new pixel i falls linearly with the distance between their centres.
    """
    step = spans[:, 1, None, None] / size  # old pixels for a new one
    center = spans[:, 0, None, None] + (np.arange(size)[:, None] + 0.5) * step
    distance = np.abs(np.arange(length) + 0.5 - center) / np.maximum(step, 1)
    weights = np.maximum(1 - distance, 0)
    weights /= weights.sum(axis=2, keepdims=True)
    return np.asarray(weights)
