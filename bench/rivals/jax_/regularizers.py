"""JAX's regularisers; with the gradient the sum is compiled into one function, grad being donated."""

from __future__ import annotations

from typing import Any

from ...problems.base import Buffers
from ...timing import Run
from ..base import Factory
from .library import compiled, in_place, jnp


def penalty(quadratic: bool, linear: bool) -> Factory:
    def factory(b: Buffers) -> Run:
        strength, square = b.strength, b.strength * b.get("beta", 1.0)

        def total(w: Any) -> Any:
            w = w.astype(jnp.float32) if w.dtype.itemsize == 2 else w
            parts = [square * jnp.sum(w * w)] * quadratic + [strength * jnp.sum(jnp.abs(w))] * linear
            return sum(parts)

        if b.get("grad") is None:
            return compiled(total, b.w)

        def step(state: Any, w: Any) -> Any:
            slope = 2 * square * w * quadratic + strength * jnp.sign(w) * linear
            return [total(w), (state[1] + slope).astype(w.dtype)]

        return in_place(step, [jnp.zeros((), jnp.promote_types(b.w.dtype, jnp.float32)), b.grad], b.w)

    return factory


PENALTIES = {"l2": penalty(True, False), "l1": penalty(False, True), "elastic_net": penalty(True, True)}
FACTORIES: dict[str, Factory] = PENALTIES | {f"{name}_and_grad": factory for name, factory in PENALTIES.items()}
