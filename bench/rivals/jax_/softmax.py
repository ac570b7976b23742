"""JAX's softmax; backward from the saved output, as its own backward pass has it."""

from __future__ import annotations

from ..base import Factory
from .library import compiled, jax, jnp

FACTORIES: dict[str, Factory] = {
    "softmax": lambda b: compiled(jax.nn.softmax, b.x),
    "log_softmax": lambda b: compiled(jax.nn.log_softmax, b.x),
    "softmax_backward": lambda b: compiled(lambda dy, y: y * (dy - jnp.sum(dy * y, -1, keepdims=True)), b.dy, b.y),
    "log_softmax_backward": lambda b: compiled(
        lambda dy, y: dy - jnp.exp(y) * jnp.sum(dy, -1, keepdims=True), b.dy, b.y
    ),
}
