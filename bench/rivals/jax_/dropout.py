"""JAX's dropout: by Threefry and raw bits, which is quicker than its other generator and than its `bernoulli`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...problems.base import Buffers
from ...problems.dropout import ALPHA, ALPHA_A, ALPHA_B, SEED, P
from ...timing import Run
from ..base import Factory
from ..numpy_.dropout import SCALE, THRESHOLD, stored
from .library import compiled, jax, jnp


def kept(key: Any, shape: tuple[int, ...]) -> Any:
    """A mask of 16 random bits an element."""
    return jax.random.bits(key, shape, jnp.uint16) >= THRESHOLD


def drawn(function: Callable[..., Any], *inputs: Any) -> Run:
    """`function(key, *inputs)` with a key for the random numbers."""
    return compiled(function, jax.random.key(SEED % 2**31), *inputs)


def dropped(x: Any, axes: int | None = None) -> Run:
    shape = x.shape if axes is None else (*x.shape[:axes], *(1,) * (x.ndim - axes))
    return drawn(lambda key, x: jnp.where(kept(key, shape), x * SCALE, 0), x)


def backward(b: Buffers, axes: int | None = None, scale: float = SCALE) -> Run:
    dy = b.dy
    shape = dy.shape if axes is None else dy.shape[:axes]
    keep = jnp.asarray(stored(shape)).reshape(shape + (1,) * (dy.ndim - len(shape)))
    return compiled(lambda dy, keep: jnp.where(keep, dy * scale, 0), dy, keep)


def alpha(b: Buffers) -> Run:
    return drawn(lambda key, x: ALPHA_A * jnp.where(kept(key, x.shape), x, ALPHA) + ALPHA_B, b.x)


def words(b: Buffers) -> Run:
    return drawn(lambda key: jax.random.bits(key, (b.blocks, 4), jnp.uint32))


FACTORIES: dict[str, Factory] = {
    "dropout": lambda b: dropped(b.x),
    "dropout_backward": backward,
    "dropout_infer": lambda b: compiled(lambda x: x * (1 - P), b.x),
    "dropout_mask": lambda b: drawn(lambda key: kept(key, tuple(b.shape))),
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
