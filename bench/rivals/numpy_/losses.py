"""NumPy's losses, all means over the batch, in preallocated arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...problems.base import Buffers
from ...timing import Run
from ..base import Factory


def cross_entropy(b: Buffers, grad: bool = False) -> Run:
    z, labels, y = b.logits, b.labels, np.empty_like(b.logits)
    n, rows = len(z), np.arange(len(z))

    def run() -> Any:
        np.subtract(z, np.max(z, axis=1, keepdims=True), out=y)
        mine = y[rows, labels]
        np.exp(y, out=y)
        total = np.sum(y, axis=1, keepdims=True)
        loss = np.mean(np.log(total[:, 0]) - mine)
        if not grad:
            return loss
        np.multiply(y, 1 / (n * total), out=y)
        y[rows, labels] -= y.dtype.type(1 / n)
        return loss, y

    return run


def hinge_loss(b: Buffers, grad: bool = False) -> Run:
    z, labels, y = b.scores, b.labels, np.empty_like(b.scores)
    n, rows = len(z), np.arange(len(z))
    slope, keep = np.empty_like(z), np.empty(z.shape, bool)

    def run() -> Any:
        np.subtract(z, z[rows, labels][:, None] - 1, out=y)
        np.clip(y, 0, np.inf, out=y)
        y[rows, labels] = 0
        loss = np.sum(y) / n
        if not grad:
            return loss
        np.greater(y, 0, out=keep)
        np.multiply(keep, slope.dtype.type(1 / n), out=slope)
        slope[rows, labels] = -np.count_nonzero(keep, axis=1) / n
        return loss, slope

    return run


def squared_error(b: Buffers, grad: bool = False) -> Run:
    x, target, t = b.x, b.target, np.empty_like(b.x)

    def run() -> Any:
        np.subtract(x, target, out=t)
        loss = np.einsum("i,i->", t, t) / x.size
        return (loss, np.multiply(t, t.dtype.type(2 / x.size), out=t)) if grad else loss

    return run


def binary(b: Buffers, grad: bool = False) -> Run:
    """loss = max(x, 0) - t x + log1p(e), slope = sigmoid(x) - t, with e = exp(-|x|)."""
    x, target = b.logits, b.target
    e, t, slope = np.empty_like(x), np.empty_like(x), np.empty_like(x)

    def run() -> Any:
        np.abs(x, out=e)
        np.negative(e, out=e)
        np.exp(e, out=e)
        np.clip(x, 0, np.inf, out=t)
        loss = np.sum(t) - np.einsum("i,i->", x, target)
        loss += np.sum(np.log1p(e, out=t))
        if not grad:
            return loss / x.size
        np.negative(x, out=slope)
        np.exp(slope, out=slope)
        np.add(slope, 1, out=slope)
        np.divide(1, slope, out=slope)
        np.subtract(slope, target, out=slope)
        return loss / x.size, np.multiply(slope, slope.dtype.type(1 / x.size), out=slope)

    return run


FACTORIES: dict[str, Factory] = {
    "cross_entropy": cross_entropy,
    "cross_entropy_and_grad": lambda b: cross_entropy(b, grad=True),
    "hinge_loss": hinge_loss,
    "hinge_loss_and_grad": lambda b: hinge_loss(b, grad=True),
    "squared_error": squared_error,
    "squared_error_and_grad": lambda b: squared_error(b, grad=True),
    "binary_cross_entropy_with_logits": binary,
    "binary_cross_entropy_with_logits_and_grad": lambda b: binary(b, grad=True),
}
