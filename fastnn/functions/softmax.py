"""The public functions of the family `softmax`."""

from __future__ import annotations

import math
from sys import modules
from typing import SupportsIndex

import numpy.typing as npt

from fastnn.arguments import Array, check_out, checked_axis, common_array, plain, real_array, receiver, stored
from fastnn.arrays import together
from fastnn.dispatch import implementation
from fastnn.function import public
from fastnn.table.softmax import ROWS

__all__ = [row.name for row in ROWS]

_ROW = {row.name: row for row in ROWS}


def split(shape: tuple[int, ...], axis: int) -> tuple[int, int, int]:
    """A shape as (outer, along the axis, inner)."""
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


def _forward(title: str, x: object, axis: object, out: Array | None) -> Array:
    if "cupy" in modules:
        together(title, x=x, out=out)
    array = real_array(title, "x", x)
    shape = split(array.shape, checked_axis(title, axis, "x", array.ndim))
    check_out(title, out, array.shape, array.dtype, {"x": array})
    y = receiver(out, array.shape, array.dtype, array)
    getattr(implementation("softmax", array), title)(plain(array).reshape(shape), y.reshape(shape))
    return stored(y, out)


def _backward(title: str, dy: object, y: object, axis: object, out: Array | None) -> Array:
    if "cupy" in modules:
        together(title, dy=dy, y=y, out=out)
    incoming, result = common_array(title, ("dy", "y"), (dy, y))
    if incoming.shape != result.shape:
        raise ValueError(f"{title}: dy has shape {incoming.shape} and y has shape {result.shape}; expected the same")
    shape = split(result.shape, checked_axis(title, axis, "y", result.ndim))
    check_out(title, out, result.shape, result.dtype, {"dy": incoming, "y": result})
    dx = receiver(out, result.shape, result.dtype, result)
    getattr(implementation("softmax", result), title)(
        plain(incoming).reshape(shape), plain(result).reshape(shape), dx.reshape(shape)
    )
    return stored(dx, out)


@public(_ROW["softmax"])
def softmax(x: npt.ArrayLike, axis: SupportsIndex = -1, *, out: Array | None = None) -> Array:
    return _forward("softmax", x, axis, out)


@public(_ROW["softmax_backward"])
def softmax_backward(
    dy: npt.ArrayLike, y: npt.ArrayLike, axis: SupportsIndex = -1, *, out: Array | None = None
) -> Array:
    return _backward("softmax_backward", dy, y, axis, out)


@public(_ROW["log_softmax"])
def log_softmax(x: npt.ArrayLike, axis: SupportsIndex = -1, *, out: Array | None = None) -> Array:
    return _forward("log_softmax", x, axis, out)


@public(_ROW["log_softmax_backward"])
def log_softmax_backward(
    dy: npt.ArrayLike, y: npt.ArrayLike, axis: SupportsIndex = -1, *, out: Array | None = None
) -> Array:
    return _backward("log_softmax_backward", dy, y, axis, out)
