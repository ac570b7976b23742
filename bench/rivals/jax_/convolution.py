"""JAX's convolution."""

from __future__ import annotations

from typing import Any

from ...problems.base import Buffers
from ...timing import Run
from ..base import Factory
from .library import compiled, gradient, jax, jnp


def _product(b: Buffers) -> Any:
    stride, pad, groups = b.get("stride", 1), b.get("padding", 0), b.get("groups", 1)

    def convolve(x: Any, weight: Any) -> Any:
        return jax.lax.conv_general_dilated(
            x, weight, (stride, stride), [(pad, pad), (pad, pad)], feature_group_count=groups
        )

    return convolve


def forward(b: Buffers) -> Run:
    product = _product(b)

    def layer(x: Any, weight: Any, bias: Any) -> Any:
        y = product(x, weight) + bias.reshape(-1, 1, 1)
        return jax.nn.relu(y) if b.get("activation") == "relu" else y

    return compiled(layer, b.x, b.weight, b.bias)


def backward(b: Buffers) -> Run:
    product = _product(b)
    return compiled(
        lambda dy, x, weight: (*gradient(product, dy, x, weight), jnp.sum(dy, (0, 2, 3))), b.dy, b.x, b.weight
    )


FACTORIES: dict[str, Factory] = {"conv2d": forward, "conv2d_backward": backward}
