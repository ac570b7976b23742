"""JAX's linear layer."""

from __future__ import annotations

from typing import Any

from ...problems.base import Buffers
from ...timing import Run
from ..base import Factory
from .library import compiled, jax, jnp


def forward(b: Buffers) -> Run:
    def layer(x: Any, weight: Any, bias: Any) -> Any:
        y = x @ weight.T + bias
        return jax.nn.relu(y) if b.get("activation") == "relu" else y

    return compiled(layer, b.x, b.weight, b.bias)


def backward(b: Buffers) -> Run:
    return compiled(lambda dy, x, weight: (dy @ weight, dy.T @ x, jnp.sum(dy, 0)), b.dy, b.x, b.weight)


FACTORIES: dict[str, Factory] = {"linear": forward, "linear_backward": backward}
