"""The public functions of the family `gating`."""

from __future__ import annotations

from typing import SupportsIndex

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
    whole_number,
)
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


class _Parts:
    """How x is cut along an axis: its shape as (outer, parts, inner), and the shape of the result."""

    def __init__(self, title: str, shape: tuple[int, ...], axis: object, pieces: int, *, adjacent: bool) -> None:
        index = checked_axis(title, axis, "x", len(shape))
        outer, length, inner = split(shape, index)
        if length % pieces:
            what = f"a multiple of pieces, {pieces}" if adjacent else "an even length"
            raise ValueError(f"{title}: x has shape {shape}; expected {what} along axis {index}, got {length}")
        part = length // pieces
        self.x = (outer * part, pieces, inner) if adjacent else (outer, pieces, part * inner)
        self.y = (self.x[0], self.x[2])
        self.result = (*shape[:index], part, *shape[index + 1 :])


def _forward(title: str, x: object, axis: object, pieces: int, out: Array | None) -> Array:
    array = real_array(title, "x", x)
    parts = _Parts(title, array.shape, axis, pieces, adjacent=title == "maxout")
    check_out(title, out, parts.result, array.dtype, {"x": array})
    check_apart(title, out, {"x": array})
    y = receiver(out, parts.result, array.dtype)
    getattr(implementation("gating"), title)(plain(array).reshape(parts.x), y.reshape(parts.y))
    return stored(y, out)


def _backward(title: str, dy: object, x: object, axis: object, pieces: int, out: Array | None) -> Array:
    incoming, array = common_array(title, ("dy", "x"), (dy, x))
    parts = _Parts(title, array.shape, axis, pieces, adjacent=title == "maxout_backward")
    if incoming.shape != parts.result:
        raise ValueError(
            f"{title}: dy has shape {incoming.shape}; expected {parts.result}, the shape of the result for x of shape "
            f"{array.shape}"
        )
    check_out(title, out, array.shape, array.dtype, {"x": array})
    check_apart(title, out, {"dy": incoming})
    dx = receiver(out, array.shape, array.dtype)
    getattr(implementation("gating"), title)(
        plain(incoming).reshape(parts.y), plain(array).reshape(parts.x), dx.reshape(parts.x)
    )
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
