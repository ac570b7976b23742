"""NumPy's linear layer: its BLAS, then bias and ReLU in place."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...problems.base import Buffers
from ...timing import Run
from ..base import Factory


def forward(b: Buffers) -> Run:
    x, y, across = b.x, b.out, b.weight.T

    def run() -> Any:
        np.matmul(x, across, out=y)
        np.add(y, b.bias, out=y)
        return np.clip(y, 0, np.inf, out=y) if b.get("activation") == "relu" else y

    return run


def backward(b: Buffers) -> Run:
    dy, x, weight = b.dy, b.x, b.weight
    dx, dweight, dbias = np.empty_like(x), np.empty_like(weight), np.empty(weight.shape[0], weight.dtype)

    def run() -> Any:
        np.matmul(dy, weight, out=dx)
        np.matmul(dy.T, x, out=dweight)
        return dx, dweight, np.sum(dy, axis=0, out=dbias)

    return run


FACTORIES: dict[str, Factory] = {"linear": forward, "linear_backward": backward}
