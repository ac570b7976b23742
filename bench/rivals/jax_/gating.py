"""JAX's gates."""

from __future__ import annotations

from typing import Any

from ...problems.base import Buffers
from ...timing import Run
from ..base import Factory
from .library import Function, compiled, gradient, jax, jnp


def swiglu(x: Any) -> Any:
    first, second = jnp.split(x, 2, -1)
    return jax.nn.silu(first) * second


def glu(x: Any) -> Any:
    return jax.nn.glu(x, -1)


def maxout(x: Any) -> Any:
    return jnp.maximum(x[:, ::2], x[:, 1::2])


def maxout_backward(b: Buffers) -> Run:
    """By hand: the first of equals gets it all."""

    def slopes(dy: Any, x: Any) -> Any:
        first = x[:, ::2] >= x[:, 1::2]
        return jnp.stack([jnp.where(first, dy, 0), jnp.where(first, 0, dy)], -1).reshape(x.shape)

    return compiled(slopes, b.dy, b.x)


def _forward(function: Function) -> Factory:
    return lambda b: compiled(function, b.x)


def _backward(function: Function) -> Factory:
    return lambda b: compiled(lambda dy, x: gradient(function, dy, x)[0], b.dy, b.x)


FACTORIES: dict[str, Factory] = {
    "glu": _forward(glu),
    "glu_backward": _backward(glu),
    "swiglu": _forward(swiglu),
    "swiglu_backward": _backward(swiglu),
    "maxout": _forward(maxout),
    "maxout_backward": maxout_backward,
}
