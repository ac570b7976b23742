"""JAX: jitted, inputs on the device, output buffer donated; backward is the jitted vector-Jacobian product.

Backward is compiled from the same `saved` array that everyone gets, so that no work is moved into an untimed forward.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.table import OPS

from ..cases import Array, Buffers, Case
from ..timing import Run, Task
from .base import Rival

Function = Callable[..., Any]


def _limit_threads(threads: int) -> None:
    """XLA sizes its thread pool when it starts, so this must come before the import."""
    if "jax" in sys.modules:
        return
    os.environ.setdefault("NPROC", str(threads))
    if threads == 1 and "xla_cpu_multi_thread_eigen" not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false".strip()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")


class Jax(Rival):
    name = "jax"
    package = "jax"
    dtypes = frozenset({"float32", "float64", "float16", "bfloat16"})

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        _limit_threads(threads)
        self.jax: Any = importlib.import_module("jax")
        self.jax.config.update("jax_enable_x64", True)  # scalars stay weakly typed, so float32 results stay float32
        self.jax.config.update("jax_cpu_enable_async_dispatch", False)  # no hand-over to another thread
        nn, jnp = self.jax.nn, self.jax.numpy
        self.functions: dict[str, Function] = {
            "relu": nn.relu,
            "leaky_relu": nn.leaky_relu,
            "prelu": lambda x, alpha: jnp.where(x > 0, x, alpha * x),
            "elu": nn.elu,
            "parametric_elu": nn.elu,
            "selu": nn.selu,
            "celu": nn.celu,
            "gelu": lambda x: nn.gelu(x, approximate=False),
            "gelu_tanh": lambda x: nn.gelu(x, approximate=True),
            "silu": nn.silu,
            "swish": lambda x, beta: x * nn.sigmoid(beta * x),
            "softplus": nn.softplus,
            "mish": nn.mish,
            "sigmoid": nn.sigmoid,
            "tanh": jnp.tanh,
            "log_sigmoid": nn.log_sigmoid,
            "hardsigmoid": nn.hard_sigmoid,
            "hardswish": nn.hard_silu,
            "hardtanh": lambda x, low, high: jnp.clip(x, low, high),
            "relu6": nn.relu6,
            "softsign": nn.soft_sign,
            "sin": jnp.sin,
            "cos": jnp.cos,
        }
        self.from_output: dict[str, Function] = {
            "sigmoid": lambda dy, y: dy * y * (1 - y),
            "tanh": lambda dy, y: dy * (1 - y) * (1 + y),
        }

    def supports(self, case: Case) -> bool:
        if case.dtype not in self.dtypes or case.op not in self.functions:
            return False
        return case.direction == "forward" or case.row.saves == "input" or case.op in self.from_output

    def on_device(self, array: Array) -> Any:
        try:
            return self.jax.numpy.from_dlpack(array)  # the shared memory itself
        except Exception:  # bfloat16, which NumPy cannot export
            return self.jax.numpy.asarray(array)

    def task(self, case: Case, buffers: Buffers) -> Task | None:
        if not self.supports(case):
            return None
        jax = self.jax
        x, params = self.on_device(buffers.x), buffers.params
        function = self.functions[case.op]
        if case.direction == "forward":
            return Task(self.compiled(lambda x: function(x, *params), x), self.context)
        dy, saved = self.on_device(buffers.dy), self.on_device(buffers.saved)
        if case.row.saves == "output":
            return Task(self.compiled(self.from_output[case.op], dy, saved), self.context)
        learned = OPS[case.op].learned
        if learned is None:

            def slope(dy: Any, x: Any) -> Any:
                return jax.vjp(lambda x: function(x, *params), x)[1](dy)[0]

            return Task(self.compiled(slope, dy, saved), self.context)

        def slopes(dy: Any, x: Any, alpha: Any) -> Any:
            return jax.vjp(lambda x, alpha: function(x, *params[:learned], alpha, *params[learned + 1 :]), x, alpha)[1](
                dy
            )

        alpha = jax.numpy.asarray(params[learned], saved.dtype)
        return Task(self.compiled(slopes, dy, saved, alpha), self.context)

    def compiled(self, function: Function, *inputs: Any) -> Run:
        """A call that writes into the buffer of the previous call's result, and waits for it."""
        jitted = self.jax.jit(lambda spare, *inputs: function(*inputs), donate_argnums=0, keep_unused=True)
        spare = self.jax.numpy.zeros_like(inputs[0])

        def run() -> Any:
            nonlocal spare
            result = self.jax.block_until_ready(jitted(spare, *inputs))
            spare = result[0] if isinstance(result, tuple) else result
            return result

        return run

    def array(self, result: Any, case: Case) -> Array:
        # a copy: the buffer is donated to the next call
        return np.array(result[0] if isinstance(result, tuple) else result)


def make(threads: int) -> Rival:
    return Jax(threads)
