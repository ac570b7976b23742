"""JAX's optimiser steps, as a training loop has them: jitted, the state donated."""

from __future__ import annotations

from typing import Any

from ...problems.base import Buffers
from ...timing import Run
from ..base import Factory
from .library import compiled, in_place, jnp


def sgd(b: Buffers) -> Run:
    def step(state: Any, grad: Any) -> Any:
        param, velocity = state
        velocity = b.momentum * velocity + grad
        return [(param - b.lr * velocity).astype(param.dtype), velocity]

    return in_place(step, [b.param, b.velocity], b.grad)


def adam(decay: float) -> Factory:
    def factory(b: Buffers) -> Run:
        def step(state: Any, grad: Any) -> Any:
            param, first, second = state
            grad = grad.astype(first.dtype)
            first, second = 0.9 * first + 0.1 * grad, 0.999 * second + 0.001 * grad * grad
            size = b.lr / (1 - 0.9**b.step)
            update = size * first / (jnp.sqrt(second / (1 - 0.999**b.step)) + 1e-8)
            return [(param * (1 - b.lr * decay) - update).astype(param.dtype), first, second]

        return in_place(step, [b.param, b.exp_avg, b.exp_avg_sq], b.grad)

    return factory


def rmsprop(b: Buffers) -> Run:
    def step(state: Any, grad: Any) -> Any:
        param, square = state
        grad = grad.astype(square.dtype)
        square = 0.99 * square + 0.01 * grad * grad
        return [(param - b.lr * grad / (jnp.sqrt(square) + 1e-8)).astype(param.dtype), square]

    return in_place(step, [b.param, b.square_avg], b.grad)


def clip(b: Buffers) -> Run:
    """Within the bound: the norm alone, no new gradients."""
    if b.max_norm < 1e3:
        return compiled(lambda grads: _scaled(grads, b.max_norm)[0], b.grads)
    return compiled(lambda grads: _norm(grads), b.grads)


def _norm(grads: Any) -> Any:
    return jnp.sqrt(sum(jnp.sum(grad * grad) for grad in grads))


def _scaled(grads: Any, bound: float) -> Any:
    total = _norm(grads)
    factor = jnp.minimum(1, bound / (total + 1e-6))
    return total, [grad * factor for grad in grads]


FACTORIES: dict[str, Factory] = {
    "sgd_step": sgd,
    "adam_step": adam(0.0),
    "adamw_step": adam(0.01),
    "rmsprop_step": rmsprop,
    "clip_grad_norm": clip,
}
