"""The public functions of the family `gating`."""

from __future__ import annotations

import functools
from sys import modules
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
import numpy.typing as npt

from fastnn.arguments import (
    Array,
    check_apart,
    check_out,
    checked_axis,
    common_array,
    plain,
    real_array,
    receiver,
    stored,
    takes,
    whole_number,
)
from fastnn.arrays import empty, together
from fastnn.dispatch import implementation
from fastnn.function import public
from fastnn.functions.softmax import split
from fastnn.table.gating import ROWS

__all__ = [row.name for row in ROWS]

_ROW = {row.name: row for row in ROWS}


def _checked_pieces(title: str, pieces: object) -> int:
    number = whole_number(title, "pieces", pieces)
    if number < 1:
        raise ValueError(f"{title}: pieces is {number}; expected an int from 1 up")
    return number


class _Parts(NamedTuple):
    """How x is cut along an axis, as (outer, parts, inner), and the shape of the result."""

    x: tuple[int, int, int]
    y: tuple[int, int]
    result: tuple[int, ...]


@functools.lru_cache(maxsize=256)
def _parts(title: str, shape: tuple[int, ...], axis: int, pieces: int, adjacent: bool) -> _Parts:
    index = checked_axis(title, axis, "x", len(shape))
    outer, length, inner = split(shape, index)
    if length % pieces:
        what = f"a multiple of pieces, {pieces}" if adjacent else "an even length"
        raise ValueError(f"{title}: x has shape {shape}; expected {what} along axis {index}, got {length}")
    part = length // pieces
    x = (outer * part, pieces, inner) if adjacent else (outer, pieces, part * inner)
    return _Parts(x, (x[0], x[2]), (*shape[:index], part, *shape[index + 1 :]))


def _receiver(
    title: str, out: Array | None, shape: tuple[int, ...], dtype: np.dtype[Any], dy: Array | None, x: Array
) -> Array:
    if out is None:
        return np.empty(shape, dtype) if type(x) is np.ndarray else empty(x, shape, dtype)
    if takes(out, shape, dtype, *([x] if dy is None else [dy, x])):
        return out
    check_out(title, out, shape, dtype, {"x": x})
    check_apart(title, out, {"x": x} if dy is None else {"dy": dy})  # the gradient of x may take its place
    return receiver(out, shape, dtype, x)


def _forward(title: str, x: object, axis: object, pieces: int, out: Array | None) -> Array:
    if "cupy" in modules:
        together(title, x=x, out=out)
    array = real_array(title, "x", x)
    parts = _parts(title, array.shape, whole_number(title, "axis", axis), pieces, title == "maxout")
    y = _receiver(title, out, parts.result, array.dtype, None, array)
    getattr(implementation("gating", array), title)(plain(array).reshape(parts.x), y.reshape(parts.y))
    return stored(y, out)


def _backward(title: str, dy: object, x: object, axis: object, pieces: int, out: Array | None) -> Array:
    if "cupy" in modules:
        together(title, dy=dy, x=x, out=out)
    incoming, array = common_array(title, ("dy", "x"), (dy, x))
    parts = _parts(title, array.shape, whole_number(title, "axis", axis), pieces, title == "maxout_backward")
    if incoming.shape != parts.result:
        raise ValueError(
            f"{title}: dy has shape {incoming.shape}; expected {parts.result}, the shape of the result for x of shape "
            f"{array.shape}"
        )
    dx = _receiver(title, out, array.shape, array.dtype, incoming, array)
    kernel = getattr(implementation("gating", array), title)
    kernel(plain(incoming).reshape(parts.y), plain(array).reshape(parts.x), dx.reshape(parts.x))
    return stored(dx, out)


@public(_ROW["maxout"])
def maxout(x: npt.ArrayLike, pieces: SupportsIndex, axis: SupportsIndex = 1, *, out: Array | None = None) -> Array:
    return _forward("maxout", x, axis, _checked_pieces("maxout", pieces), out)


@public(_ROW["maxout_backward"])
def maxout_backward(
    dy: npt.ArrayLike, x: npt.ArrayLike, pieces: SupportsIndex, axis: SupportsIndex = 1, *, out: Array | None = None
) -> Array:
    return _backward("maxout_backward", dy, x, axis, _checked_pieces("maxout_backward", pieces), out)


@public(_ROW["glu"])
def glu(x: npt.ArrayLike, axis: SupportsIndex = -1, *, out: Array | None = None) -> Array:
    return _forward("glu", x, axis, 2, out)


@public(_ROW["glu_backward"])
def glu_backward(dy: npt.ArrayLike, x: npt.ArrayLike, axis: SupportsIndex = -1, *, out: Array | None = None) -> Array:
    return _backward("glu_backward", dy, x, axis, 2, out)


@public(_ROW["swiglu"])
def swiglu(x: npt.ArrayLike, axis: SupportsIndex = -1, *, out: Array | None = None) -> Array:
    return _forward("swiglu", x, axis, 2, out)


@public(_ROW["swiglu_backward"])
def swiglu_backward(
    dy: npt.ArrayLike, x: npt.ArrayLike, axis: SupportsIndex = -1, *, out: Array | None = None
) -> Array:
    return _backward("swiglu_backward", dy, x, axis, 2, out)
