"""NumPy's optimiser steps: all in place, one temporary."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...problems.base import Array, Buffers
from ...timing import Run
from ..base import Call, Factory


def sgd(b: Buffers) -> Call:
    param, grad, velocity, t = b.param, b.grad, b.velocity, np.empty_like(b.velocity)

    def run() -> None:
        np.multiply(velocity, b.momentum, out=velocity)
        np.add(velocity, grad, out=velocity)
        np.multiply(velocity, b.lr, out=t)
        np.subtract(param, t, out=param, casting="same_kind")

    return Call(run, lambda _: (param, velocity))


def _square_mean(mean: Array, grad: Array, keep: float, t: Array) -> None:
    """mean = keep mean + (1 - keep) grad^2."""
    np.multiply(mean, keep, out=mean)
    np.multiply(grad, grad, out=t)
    np.multiply(t, 1 - keep, out=t)
    np.add(mean, t, out=mean)


def adam(decay: float) -> Factory:
    def factory(b: Buffers) -> Call:
        param, grad, first, second = b.param, b.grad, b.exp_avg, b.exp_avg_sq
        t = np.empty_like(first)
        root, size = math.sqrt(1 - 0.999**b.step), b.lr / (1 - 0.9**b.step)

        def run() -> None:
            np.multiply(first, 0.9, out=first)
            np.multiply(grad, 0.1, out=t)
            np.add(first, t, out=first)
            _square_mean(second, grad, 0.999, t)
            np.sqrt(second, out=t)
            # size m / (sqrt(v) / root + eps) = m size root / (sqrt(v) + eps root)
            np.add(t, 1e-8 * root, out=t)
            np.divide(first, t, out=t)
            np.multiply(t, size * root, out=t)
            if decay:
                np.multiply(param, 1 - b.lr * decay, out=param)
            np.subtract(param, t, out=param, casting="same_kind")

        return Call(run, lambda _: (param, first, second))

    return factory


def rmsprop(b: Buffers) -> Call:
    param, grad, square, t = b.param, b.grad, b.square_avg, np.empty_like(b.square_avg)

    def run() -> None:
        _square_mean(square, grad, 0.99, t)
        np.sqrt(square, out=t)
        np.add(t, 1e-8, out=t)
        np.divide(grad, t, out=t)
        np.multiply(t, b.lr, out=t)
        np.subtract(param, t, out=param, casting="same_kind")

    return Call(run, lambda _: (param, square))


def dot(a: Array) -> Any:
    """The sum of squares by NumPy's own loop; np.dot would call a BLAS with threads of its own."""
    flat = a.reshape(-1)
    return np.einsum("i,i->", flat, flat, dtype=np.float32 if a.dtype == np.float16 else None)


def clip(b: Buffers) -> Run:
    grads, bound = b.grads, b.max_norm

    def run() -> Any:
        total = math.sqrt(math.fsum(dot(grad) for grad in grads))
        if total > bound:
            for grad in grads:
                np.multiply(grad, bound / (total + 1e-6), out=grad)
        return np.asarray(total)

    return run


FACTORIES: dict[str, Factory] = {
    "sgd_step": sgd,
    "adam_step": adam(0.0),
    "adamw_step": adam(0.01),
    "rmsprop_step": rmsprop,
    "clip_grad_norm": clip,
}
