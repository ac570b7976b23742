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
        dims = x.ndim - 2
        return jax.lax.conv_general_dilated(
            x, weight, (stride,) * dims, [(pad, pad)] * dims, feature_group_count=groups
        )

    return convolve


def forward(b: Buffers) -> Run:
    product = _product(b)

    def layer(x: Any, weight: Any, bias: Any) -> Any:
        y = product(x, weight) + bias.astype(x.dtype).reshape(-1, *(1,) * (x.ndim - 2))
        return jax.nn.relu(y) if b.get("activation") == "relu" else y

    return compiled(layer, b.x, b.weight, b.bias)


def backward(b: Buffers) -> Run:
    product = _product(b)
    return compiled(
        lambda dy, x, weight: (*gradient(product, dy, x, weight), jnp.sum(dy, (0, *range(2, dy.ndim)))),
        b.dy,
        b.x,
        b.weight,
    )


FACTORIES: dict[str, Factory] = {
    name: factory for n in "12" for name, factory in ((f"conv{n}d", forward), (f"conv{n}d_backward", backward))
}
