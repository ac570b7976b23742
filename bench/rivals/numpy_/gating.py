"""NumPy's gates, in preallocated arrays."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ...problems.base import Array, Buffers
from ...timing import Run
from ..base import Factory


def _halves(x: Array) -> tuple[Array, Array]:
    half = x.shape[-1] // 2
    return x[:, :half], x[:, half:]


def _sigmoid(x: Array, out: Array) -> Array:
    np.negative(x, out=out)
    np.exp(out, out=out)
    np.add(out, 1, out=out)
    return np.divide(1, out, out=out)


def glu(b: Buffers) -> Run:
    (x, gate), y = _halves(b.x), b.out

    def run() -> Any:
        return np.multiply(x, _sigmoid(gate, y), out=y)

    return run


def swiglu(b: Buffers) -> Run:
    (x, factor), y = _halves(b.x), b.out

    def run() -> Any:
        np.multiply(x, _sigmoid(x, y), out=y)
        return np.multiply(y, factor, out=y)

    return run


def glu_backward(b: Buffers) -> Run:
    (x, gate), (dx, dgate), dy = _halves(b.x), _halves(b.out), b.dy
    s = np.empty_like(dy)

    def run() -> Any:
        _sigmoid(gate, s)
        np.multiply(dy, s, out=dx)
        np.subtract(1, s, out=dgate)
        np.multiply(dgate, dx, out=dgate)
        np.multiply(dgate, x, out=dgate)
        return b.out

    return run


def swiglu_backward(b: Buffers) -> Run:
    (x, factor), (dx, dfactor), dy = _halves(b.x), _halves(b.out), b.dy
    s, y = np.empty_like(dy), np.empty_like(dy)

    def run() -> Any:
        _sigmoid(x, s)
        np.multiply(x, s, out=y)  # silu; its slope is s + y (1 - s)
        np.multiply(dy, y, out=dfactor)
        np.subtract(1, s, out=dx)
        np.multiply(dx, y, out=dx)
        np.add(dx, s, out=dx)
        np.multiply(dx, factor, out=dx)
        np.multiply(dx, dy, out=dx)
        return b.out

    return run


def maxout(b: Buffers) -> Run:
    """Pieces are neighbours: the maximum of two strided views."""
    return partial(np.maximum, b.x[:, ::2], b.x[:, 1::2], out=b.out)


def maxout_backward(b: Buffers) -> Run:
    first, second = b.x[:, ::2], b.x[:, 1::2]
    dfirst, dsecond, dy = b.out[:, ::2], b.out[:, 1::2], b.dy
    keep = np.empty(dy.shape, bool)

    def run() -> Any:
        np.greater_equal(first, second, out=keep)
        np.multiply(dy, keep, out=dfirst)
        np.subtract(dy, dfirst, out=dsecond)
        return b.out

    return run


FACTORIES: dict[str, Factory] = {
    "glu": glu,
    "glu_backward": glu_backward,
    "swiglu": swiglu,
    "swiglu_backward": swiglu_backward,
    "maxout": maxout,
    "maxout_backward": maxout_backward,
}
