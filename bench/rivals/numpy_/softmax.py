"""NumPy's softmax, in preallocated arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...problems.base import Buffers
from ...timing import Run
from ..base import Factory


def softmax(b: Buffers) -> Run:
    x, y = b.x, b.out

    def run() -> Any:
        np.subtract(x, np.max(x, axis=-1, keepdims=True), out=y)
        np.exp(y, out=y)
        return np.multiply(y, 1 / np.sum(y, axis=-1, keepdims=True), out=y)

    return run


def log_softmax(b: Buffers) -> Run:
    x, y, t = b.x, b.out, np.empty_like(b.x)

    def run() -> Any:
        np.subtract(x, np.max(x, axis=-1, keepdims=True), out=y)
        np.exp(y, out=t)
        return np.subtract(y, np.log(np.sum(t, axis=-1, keepdims=True)), out=y)

    return run


def softmax_backward(b: Buffers) -> Run:
    dy, y, dx = b.dy, b.y, b.out

    def run() -> Any:
        np.subtract(dy, np.einsum("ij,ij->i", dy, y)[:, None], out=dx)
        return np.multiply(dx, y, out=dx)

    return run


def log_softmax_backward(b: Buffers) -> Run:
    dy, y, dx = b.dy, b.y, b.out

    def run() -> Any:
        np.exp(y, out=dx)
        np.multiply(dx, np.sum(dy, axis=-1, keepdims=True), out=dx)
        return np.subtract(dy, dx, out=dx)

    return run


FACTORIES: dict[str, Factory] = {
    "softmax": softmax,
    "softmax_backward": softmax_backward,
    "log_softmax": log_softmax,
    "log_softmax_backward": log_softmax_backward,
}
