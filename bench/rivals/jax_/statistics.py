"""JAX's reductions for watching a training run, compiled into one function each."""

from __future__ import annotations

from typing import Any

from ...problems.base import Buffers
from ...timing import Run
from ..base import Factory
from ..numpy_.statistics import MARGIN
from .library import compiled, jnp


def _share(condition: Any, y: Any) -> Any:
    return jnp.mean(condition, dtype=jnp.promote_types(y.dtype, jnp.float32))


def _saturation(y: Any) -> Any:
    return _share(y <= MARGIN - 1, y), _share(y >= 1 - MARGIN, y)


def dead_units(b: Buffers) -> Run:
    def count(y: Any) -> Any:
        inactive = jnp.sum(y <= 0, 0, dtype=jnp.int32)
        return inactive == len(y), inactive / jnp.asarray(len(y), jnp.promote_types(y.dtype, jnp.float32))

    return compiled(count, b.y)


def activation_statistics(b: Buffers) -> Run:
    def describe(y: Any) -> Any:
        return jnp.mean(y), jnp.std(y), jnp.min(y), jnp.max(y), _share(y <= 0, y), *_saturation(y)

    return compiled(describe, b.y)


def update_ratio(b: Buffers) -> Run:
    return compiled(lambda p, u: jnp.sqrt(jnp.sum(u * u)) / jnp.sqrt(jnp.sum(p * p)), b.param, b.update)


FACTORIES: dict[str, Factory] = {
    "dead_units": dead_units,
    "saturation": lambda b: compiled(_saturation, b.y),
    "activation_statistics": activation_statistics,
    "update_ratio": update_ratio,
}
