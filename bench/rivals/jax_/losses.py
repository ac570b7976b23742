"""JAX's losses; with the gradient in one compiled function."""

from __future__ import annotations

from typing import Any

from ..base import Factory
from .library import Function, compiled, jax, jnp


def _wide(x: Any) -> Any:
    """16-bit numbers are computed with in float32."""
    return x.astype(jnp.float32) if x.dtype.itemsize == 2 else x


def cross_entropy(z: Any, labels: Any) -> Any:
    z = _wide(z)
    mine = jnp.take_along_axis(z, labels[:, None], 1)[:, 0]
    return jnp.mean(jax.scipy.special.logsumexp(z, 1) - mine)


def hinge_loss(z: Any, labels: Any) -> Any:
    z = _wide(z)
    mine = jnp.take_along_axis(z, labels[:, None], 1)
    terms = jnp.maximum(z - mine + 1, 0)
    own = labels[:, None] == jnp.arange(z.shape[1])
    return jnp.sum(jnp.where(own, 0, terms)) / len(z)


def squared_error(x: Any, target: Any) -> Any:
    return jnp.mean((_wide(x) - _wide(target)) ** 2)


def binary(x: Any, target: Any) -> Any:
    x = _wide(x)
    return jnp.mean(jnp.maximum(x, 0) - x * target + jnp.log1p(jnp.exp(-jnp.abs(x))))


def _pair(name: str, function: Function, first: str, second: str) -> dict[str, Factory]:
    def plain(b: Any) -> Any:
        return compiled(function, b.values[first], b.values[second])

    def both(b: Any) -> Any:
        return compiled(jax.value_and_grad(function), b.values[first], b.values[second])

    return {name: plain, f"{name}_and_grad": both}


FACTORIES: dict[str, Factory] = {
    **_pair("cross_entropy", cross_entropy, "logits", "labels"),
    **_pair("hinge_loss", hinge_loss, "scores", "labels"),
    **_pair("squared_error", squared_error, "x", "target"),
    **_pair("binary_cross_entropy_with_logits", binary, "logits", "target"),
}
