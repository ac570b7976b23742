"""SciPy's activations: its special functions, and what a step or two of NumPy makes of them."""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np

from ..base import Factory, both
from ..numpy_.activations import bind_backward, bind_forward, direct

special: Any = importlib.import_module("scipy.special")


def gelu(x: Any, out: Any, t: Any) -> Any:
    return np.multiply(special.ndtr(x, out=out), x, out=out)


def swish(x: Any, out: Any, t: Any, beta: float = 1.0) -> Any:
    special.expit(x if beta == 1 else np.multiply(x, beta, out=out), out=out)
    return np.multiply(out, x, out=out)


def softplus(x: Any, out: Any, t: Any) -> Any:
    np.negative(x, out=out)
    special.log_expit(out, out=out)
    return np.negative(out, out=out)


def mish(x: Any, out: Any, t: Any) -> Any:
    np.tanh(softplus(x, out, t), out=out)
    return np.multiply(out, x, out=out)


def gelu_backward(dy: Any, x: Any, out: Any, t: Any) -> Any:
    np.multiply(x, x, out=t)
    np.multiply(t, -0.5, out=t)
    np.exp(t, out=t)
    np.multiply(t, x, out=t)
    np.multiply(t, 1 / math.sqrt(2 * math.pi), out=t)
    np.add(t, special.ndtr(x, out=out), out=t)
    return np.multiply(dy, t, out=out)


def swish_backward(dy: Any, x: Any, out: Any, t: Any, beta: float = 1.0) -> Any:
    z = np.multiply(x, beta, out=out)
    special.expit(z, out=t)
    np.multiply(z, 1 - t, out=out)
    np.add(out, 1, out=out)
    np.multiply(out, t, out=out)
    return np.multiply(dy, out, out=out)


def softplus_backward(dy: Any, x: Any, out: Any, t: Any) -> Any:
    return np.multiply(special.expit(x, out=out), dy, out=out)


def log_sigmoid_backward(dy: Any, x: Any, out: Any, t: Any) -> Any:
    return np.multiply(special.expit(np.negative(x, out=out), out=out), dy, out=out)


FORWARD: dict[str, Factory] = {
    "gelu": bind_forward(gelu),
    "silu": bind_forward(swish),
    "swish": bind_forward(swish),
    "softplus": bind_forward(softplus),
    "mish": bind_forward(mish),
    "sigmoid": direct(special.expit),
    "log_sigmoid": direct(special.log_expit),
}

BACKWARD: dict[str, Factory] = {
    "gelu": bind_backward(gelu_backward),
    "silu": bind_backward(swish_backward),
    "swish": bind_backward(swish_backward),
    "softplus": bind_backward(softplus_backward),
    "log_sigmoid": bind_backward(log_sigmoid_backward),
}

FACTORIES = both(FORWARD, BACKWARD)
