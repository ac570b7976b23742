"""JAX's dropout: by each of its random number generators, and by fractions or by raw bits; the quickest counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...problems.base import Buffers
from ...problems.dropout import ALPHA, ALPHA_A, ALPHA_B, SEED, P
from ...timing import Run
from ..base import Factory, quickest
from ..numpy_.dropout import SCALE, THRESHOLD, stored
from .library import compiled, jax, jnp

Mask = Callable[[Any, tuple[int, ...]], Any]


def by_bits(key: Any, shape: tuple[int, ...]) -> Any:
    return jax.random.bits(key, shape, jnp.uint16) >= THRESHOLD


def by_bernoulli(key: Any, shape: tuple[int, ...]) -> Any:
    return jax.random.bernoulli(key, 1 - P, shape)


def drawn(function: Callable[..., Any], *inputs: Any, forms: tuple[Mask, ...] = (by_bernoulli, by_bits)) -> Run:
    """`function(mask, *inputs)`, `mask(shape)` being drawn in the quickest of the ways JAX has."""

    def run_of(form: Mask, generator: str) -> Run:
        key = jax.random.key(SEED % 2**31, impl=generator)
        return compiled(lambda key, *inputs: function(lambda shape: form(key, shape), *inputs), key, *inputs)

    return quickest(*(run_of(form, generator) for form in forms for generator in ("threefry2x32", "rbg")))


def dropped(x: Any, axes: int | None = None) -> Run:
    shape = x.shape if axes is None else (*x.shape[:axes], *(1,) * (x.ndim - axes))
    return drawn(lambda mask, x: jnp.where(mask(shape), x * SCALE, 0), x)


def backward(b: Buffers, axes: int | None = None, scale: float = SCALE) -> Run:
    dy = b.dy
    shape = dy.shape if axes is None else dy.shape[:axes]
    keep = jnp.asarray(stored(shape)).reshape(shape + (1,) * (dy.ndim - len(shape)))
    return compiled(lambda dy, keep: jnp.where(keep, dy * scale, 0), dy, keep)


def alpha(b: Buffers) -> Run:
    return drawn(lambda mask, x: ALPHA_A * jnp.where(mask(x.shape), x, ALPHA) + ALPHA_B, b.x)


def words(b: Buffers) -> Run:
    def bits(key: Any, shape: tuple[int, ...]) -> Any:
        return jax.random.bits(key, shape, jnp.uint32)

    return drawn(lambda mask: mask((b.blocks, 4)), forms=(bits,))


FACTORIES: dict[str, Factory] = {
    "dropout": lambda b: dropped(b.x),
    "dropout_backward": backward,
    "dropout_infer": lambda b: compiled(lambda x: x * (1 - P), b.x),
    "dropout_mask": lambda b: drawn(lambda mask: mask(tuple(b.shape))),
    "spatial_dropout": lambda b: dropped(b.x, 2),
    "spatial_dropout_backward": lambda b: backward(b, 2),
    "stochastic_depth": lambda b: dropped(b.x, 1),
    "stochastic_depth_backward": lambda b: backward(b, 1),
    "drop_connect": lambda b: dropped(b.weight),
    "drop_connect_backward": backward,
    "alpha_dropout": alpha,
    "alpha_dropout_backward": lambda b: backward(b, None, ALPHA_A),
    "philox": words,
}
