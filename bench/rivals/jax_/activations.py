"""JAX's activations."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastnn.table import OPS

from ...problems.base import Buffers
from ...timing import Run
from ..base import Factory, both
from .library import Function, compiled, gradient, jax, jnp

nn: Any = jax.nn

FUNCTIONS: dict[str, Function] = {
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

FROM_OUTPUT: dict[str, Function] = {
    "sigmoid": lambda dy, y: dy * y * (1 - y),
    "tanh": lambda dy, y: dy * (1 - y) * (1 + y),
}


def forward(name: str, b: Buffers) -> Run:
    return compiled(lambda x: FUNCTIONS[name](x, *b.params), b.x)


def backward(name: str, b: Buffers) -> Run:
    function, params = FUNCTIONS[name], b.params
    if name in FROM_OUTPUT:
        return compiled(FROM_OUTPUT[name], b.dy, b.saved)
    learned = OPS[name].learned
    if learned is None:
        return compiled(lambda dy, x: gradient(lambda x: function(x, *params), dy, x)[0], b.dy, b.saved)

    def with_learned(x: Any, alpha: Any) -> Any:
        return function(x, *params[:learned], alpha, *params[learned + 1 :])

    alpha = jnp.asarray(params[learned], b.saved.dtype)
    return compiled(lambda dy, x, alpha: gradient(with_learned, dy, x, alpha), b.dy, b.saved, alpha)


_forward: dict[str, Factory] = {name: partial(forward, name) for name in FUNCTIONS}
_backward: dict[str, Factory] = {
    name: partial(backward, name) for name in FUNCTIONS if OPS[name].saves == "input" or name in FROM_OUTPUT
}
FACTORIES = both(_forward, _backward)
