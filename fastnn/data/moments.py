"""Means, variances and covariances of data too large to convert: in float64, a piece at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

CHUNK = 1 << 20  # elements that are float64 at any one time


def number_array(title: str, x: Any) -> Array:
    """`x` as an array (N, ...) of numbers with at least one sample and one feature."""
    array = np.asarray(x)
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        raise TypeError(f"{title}: x has dtype {array.dtype}; expected real numbers")
    if array.ndim < 2:
        raise ValueError(f"{title}: x has shape {array.shape}; expected (N, features) or (N, C, H, W)")
    return array


def scaled(x: Array, dtype: npt.DTypeLike, out: Array | None = None) -> Array:
    """`x` in a floating-point dtype: uint8, which images are stored in, divided by 255, all else as it is.

    The result is `x` itself if that has the dtype, and `out` is not given.
    """
    if x.dtype == np.uint8:
        return np.divide(x, 255, out=out, dtype=dtype)
    if out is None:
        return x.astype(dtype, copy=False)
    if out is not x:
        np.copyto(out, x, casting="unsafe")
    return out


def chunks(x: Array) -> Iterator[Array]:
    """The samples of `x` as float64, some at a time: copies, which may be overwritten."""
    step = max(1, CHUNK // max(1, x[:1].size))
    for start in range(0, len(x), step):
        piece = x[start : start + step]
        yield scaled(piece, np.float64, np.empty(piece.shape, np.float64))


def mean_and_variance(x: Array, axes: tuple[int, ...]) -> tuple[Array, Array, int]:
    """Mean and (biased) variance over `axes`, the first among them, which stay as axes of length 1; and the count.

    Pieces are joined by the formula of Chan, Golub and LeVeque (1983): no difference of large sums.
    """
    count, mean, squares = 0, np.zeros(()), np.zeros(())
    for piece in chunks(x):
        new = int(np.prod([piece.shape[axis] for axis in axes]))
        center = piece.mean(axis=axes, keepdims=True)
        piece -= center
        np.square(piece, out=piece)
        shift = center - mean
        squares = squares + piece.sum(axis=axes, keepdims=True) + shift**2 * (count * new / (count + new))
        mean = mean + shift * (new / (count + new))
        count += new
    return mean, squares / count, count


def covariance(rows: Iterator[Array], mean: Array, count: int) -> Array:
    """The covariance of `count` rows (n, D) of float64, with divisor count - 1; the rows are overwritten."""
    total = np.zeros((mean.size, mean.size))
    for piece in rows:
        piece -= mean
        total += piece.T @ piece
    return total / max(1, count - 1)


def principal_axes(matrix: Array) -> tuple[Array, Array]:
    """Eigenvalues of a covariance, the largest first, and the eigenvectors as rows.

    Rounding may make a vanishing eigenvalue negative: it is 0 then. A vector's sign is free: its largest element is
    positive, so that results repeat.
    """
    values, vectors = np.linalg.eigh(matrix)
    values, rows = np.maximum(values[::-1], 0), vectors.T[::-1]
    largest = np.take_along_axis(rows, np.abs(rows).argmax(axis=1)[:, None], axis=1)
    return values, rows * np.where(largest < 0, -1, 1)
