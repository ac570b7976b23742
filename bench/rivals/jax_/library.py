"""JAX set up for measuring, and what compiles a function for it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from ...timing import Run

jax: Any = importlib.import_module("jax")
jax.config.update("jax_enable_x64", True)  # scalars stay weakly typed, so float32 results stay float32
jax.config.update("jax_cpu_enable_async_dispatch", False)  # no hand-over to another thread
jnp: Any = jax.numpy

Function = Callable[..., Any]


def compiled(function: Function, *inputs: Any, drawn: Callable[[], tuple[Any, ...]] = tuple) -> Run:
    """A call that writes into the buffers of the previous call's results, and waits for it.

    `drawn` makes further inputs, anew for every call.
    """
    jitted = jax.jit(lambda spare, *inputs: function(*inputs), donate_argnums=0, keep_unused=True)
    shapes = jax.eval_shape(function, *inputs, *drawn())
    spare = jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), shapes)

    def run() -> Any:
        nonlocal spare
        spare = jax.block_until_ready(jitted(spare, *inputs, *drawn()))
        return spare

    return run


def in_place(function: Function, state: Sequence[Any], *inputs: Any) -> Run:
    """The same for a function that makes a new state of the last one, in the same memory."""
    jitted = jax.jit(function, donate_argnums=0)
    state = [jnp.array(part, copy=True) for part in state]

    def run() -> Any:
        nonlocal state
        state = jax.block_until_ready(jitted(state, *inputs))
        return state

    return run


def gradient(function: Function, dy: Any, *inputs: Any) -> Any:
    """The vector-Jacobian product of `function` at `inputs`: one gradient for each."""
    return jax.vjp(function, *inputs)[1](dy)
