"""NumPy's dropout: the quickest generator (SFC64), asked for 32-bit fractions or, cheaper, for raw bits, 16 an element.

Backward has the mask that forward stored, as bits or, quicker to multiply with, as numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ...problems.base import Array, Buffers
from ...problems.dropout import ALPHA, ALPHA_A, ALPHA_B, SEED, P
from ...problems.functions import fnn
from ...timing import Run
from ..base import Factory, quickest

SCALE = 1 / (1 - P)
THRESHOLD = round(P * 65536)
RANDOM = np.random.Generator(np.random.SFC64(SEED))


def kept16(count: int) -> Array:
    """Booleans for `count` elements, from 16 random bits each."""
    bits = RANDOM.bit_generator.random_raw(-(-count // 4)).view(np.uint16)
    return bits[:count] >= THRESHOLD


def elementwise(x: Array, out: Array) -> Run:
    fractions = np.empty(x.shape, np.float32 if x.dtype.itemsize < 8 else np.float64)
    keep = np.empty(x.shape, bool)
    scale = x.dtype.type(SCALE)

    def by_fractions() -> Any:
        RANDOM.random(dtype=fractions.dtype, out=fractions)
        np.greater_equal(fractions, P, out=keep)
        np.multiply(x, scale, out=out)
        return np.multiply(out, keep, out=out)

    def by_bits() -> Any:
        np.multiply(x, scale, out=out)
        return np.multiply(out, kept16(x.size).reshape(x.shape), out=out)

    return quickest(by_fractions, by_bits)


def units(axes: int) -> Factory:
    """Whole channels or samples: the mask is small, and so is its cost."""

    def factory(b: Buffers) -> Run:
        x, y = b.x, b.out
        shape = x.shape[:axes] + (1,) * (x.ndim - axes)
        count = math.prod(shape)

        def run() -> Any:
            return np.multiply(x, kept16(count).reshape(shape) * x.dtype.type(SCALE), out=y)

        return run

    return factory


def stored(shape: tuple[int, ...]) -> Array:
    """The mask that fastnn draws for this shape: what a forward pass would have stored."""
    return np.asarray(fnn.dropout_mask(shape, P, seed=SEED))


def backward(b: Buffers, axes: int | None = None, scale: float = SCALE) -> Run:
    dy, dx = b.dy, b.out
    shape = dy.shape if axes is None else dy.shape[:axes]
    keep = stored(shape).reshape(shape + (1,) * (dy.ndim - len(shape)))
    factors = (keep * scale).astype(dy.dtype)

    def by_bits() -> Any:
        np.multiply(dy, dy.dtype.type(scale), out=dx)
        return np.multiply(dx, keep, out=dx)

    return quickest(by_bits, partial(np.multiply, dy, factors, out=dx))


def alpha(b: Buffers) -> Run:
    """By arithmetic: selecting by a random mask costs a mispredicted branch every other element."""
    x, y = b.x, b.out
    kind = x.dtype.type
    a, dropped, difference = kind(ALPHA_A), kind(ALPHA_A * ALPHA + ALPHA_B), kind(-ALPHA_A * ALPHA)

    def run() -> Any:
        keep = kept16(x.size).reshape(x.shape)
        np.multiply(x, a, out=y)
        np.add(y, difference, out=y)  # a x + b - dropped
        np.multiply(y, keep, out=y)
        return np.add(y, dropped, out=y)

    return run


def mask(b: Buffers) -> Run:
    count = math.prod(b.shape)
    return lambda: kept16(count).reshape(b.shape)


def words(b: Buffers) -> Run:
    draw: Callable[[int], Array] = RANDOM.bit_generator.random_raw
    return lambda: draw(2 * b.blocks)


FACTORIES: dict[str, Factory] = {
    "dropout": lambda b: elementwise(b.x, b.out),
    "dropout_backward": backward,
    "dropout_infer": lambda b: partial(np.multiply, b.x, b.x.dtype.type(1 - P), out=b.out),
    "dropout_mask": mask,
    "spatial_dropout": units(2),
    "spatial_dropout_backward": lambda b: backward(b, 2),
    "stochastic_depth": units(1),
    "stochastic_depth_backward": lambda b: backward(b, 1),
    "drop_connect": lambda b: elementwise(b.weight, b.out),
    "drop_connect_backward": backward,
    "alpha_dropout": alpha,
    "alpha_dropout_backward": lambda b: backward(b, None, ALPHA_A),
    "philox": words,
}
