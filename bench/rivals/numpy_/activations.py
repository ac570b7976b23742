"""NumPy's activations: for every op the fewest ufunc calls, all with `out=`, temporaries preallocated.

`f(x, out, t, *params)` and `f(dy, saved, out, t, *params)` return `out`; `t` is scratch space of the same shape.
NumPy has no error function, so gelu is SciPy's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..base import Factory, both

Steps = Callable[..., Any]

SELU_ALPHA = 1.6732632423543772848170429916717
SELU_LAMBDA = 1.0507009873554804934193349852946
GELU_C = math.sqrt(2 / math.pi)
GELU_A = 0.044715
MISH_CLAMP = 20.0  # beyond it mish(x) is x, and exp(x) squared stays finite


def bind_forward(steps: Steps) -> Factory:
    return lambda b: partial(steps, b.x, b.out, b.scratch, *b.params)


def bind_backward(steps: Steps) -> Factory:
    return lambda b: partial(steps, b.dy, b.saved, b.out, b.scratch, *b.params)


def direct(ufunc: Callable[..., Any], *constants: float) -> Factory:
    """A single ufunc call, with nothing of ours between the clock and it."""
    return lambda b: partial(ufunc, b.x, *constants, out=b.out)


def positive_part(x: Any, out: Any) -> Any:
    """max(x, 0); np.clip is several times faster than np.maximum with a scalar."""
    return np.clip(x, 0, math.inf, out=out)


def negative_part(x: Any, out: Any) -> Any:
    return np.clip(x, -math.inf, 0, out=out)


def sigmoid(x: Any, out: Any, t: Any) -> Any:
    np.negative(x, out=out)
    np.exp(out, out=out)
    np.add(out, 1, out=out)
    return np.divide(1, out, out=out)


def leaky_relu(x: Any, out: Any, t: Any, slope: float) -> Any:
    np.multiply(x, slope, out=out)
    return (np.maximum if slope <= 1 else np.minimum)(x, out, out=out)


def elu(x: Any, out: Any, t: Any, alpha: float, scale: float = 1.0, bend: float = 1.0) -> Any:
    negative_part(x, t)
    if bend != 1:
        np.divide(t, bend, out=t)
    np.expm1(t, out=t)
    if alpha != 1:
        np.multiply(t, alpha, out=t)
    positive_part(x, out)
    np.add(out, t, out=out)
    return out if scale == 1 else np.multiply(out, scale, out=out)


def gelu_tanh(x: Any, out: Any, t: Any) -> Any:
    np.multiply(x, x, out=t)
    np.multiply(t, GELU_C * GELU_A, out=t)
    np.add(t, GELU_C, out=t)
    np.multiply(t, x, out=t)
    np.tanh(t, out=t)
    np.add(t, 1, out=t)
    np.multiply(t, x, out=t)
    return np.multiply(t, 0.5, out=out)


def swish(x: Any, out: Any, t: Any, beta: float = 1.0) -> Any:
    np.multiply(x, -beta, out=out)
    np.exp(out, out=out)
    np.add(out, 1, out=out)
    return np.divide(x, out, out=out)


def softplus(x: Any, out: Any, t: Any) -> Any:
    np.abs(x, out=t)
    np.negative(t, out=t)
    np.exp(t, out=t)
    np.log1p(t, out=t)
    positive_part(x, out)
    return np.add(out, t, out=out)


def log_sigmoid(x: Any, out: Any, t: Any) -> Any:
    np.abs(x, out=t)
    np.negative(t, out=t)
    np.exp(t, out=t)
    np.log1p(t, out=t)
    negative_part(x, out)
    return np.subtract(out, t, out=out)


def mish(x: Any, out: Any, t: Any) -> Any:
    np.clip(x, -math.inf, MISH_CLAMP, out=t)
    np.exp(t, out=t)
    np.add(t, 2, out=out)
    np.multiply(out, t, out=out)
    np.add(out, 2, out=t)
    np.divide(out, t, out=out)
    return np.multiply(out, x, out=out)


def hardsigmoid(x: Any, out: Any, t: Any) -> Any:
    np.add(x, 3, out=out)
    np.clip(out, 0, 6, out=out)
    return np.multiply(out, 1 / 6, out=out)


def hardswish(x: Any, out: Any, t: Any) -> Any:
    return np.multiply(hardsigmoid(x, out, t), x, out=out)


def softsign(x: Any, out: Any, t: Any) -> Any:
    np.abs(x, out=out)
    np.add(out, 1, out=out)
    return np.divide(x, out, out=out)


FORWARD: dict[str, Factory] = {
    "relu": direct(np.clip, 0, math.inf),
    "leaky_relu": bind_forward(leaky_relu),
    "prelu": bind_forward(leaky_relu),
    "elu": bind_forward(elu),
    "parametric_elu": bind_forward(elu),
    "selu": bind_forward(partial(elu, alpha=SELU_ALPHA, scale=SELU_LAMBDA)),
    "celu": lambda b: partial(elu, b.x, b.out, b.scratch, b.params[0], bend=b.params[0]),
    "gelu_tanh": bind_forward(gelu_tanh),
    "silu": bind_forward(swish),
    "swish": bind_forward(swish),
    "softplus": bind_forward(softplus),
    "mish": bind_forward(mish),
    "sigmoid": bind_forward(sigmoid),
    "tanh": direct(np.tanh),
    "log_sigmoid": bind_forward(log_sigmoid),
    "hardsigmoid": bind_forward(hardsigmoid),
    "hardswish": bind_forward(hardswish),
    "hardtanh": lambda b: partial(np.clip, b.x, *b.params, out=b.out),
    "relu6": direct(np.clip, 0, 6),
    "softsign": bind_forward(softsign),
    "sin": direct(np.sin),
    "cos": direct(np.cos),
}


def relu_backward(dy: Any, x: Any, out: Any, t: Any) -> Any:
    np.greater(x, 0, out=t)
    return np.multiply(dy, t, out=out)


def leaky_relu_backward(dy: Any, x: Any, out: Any, t: Any, slope: float) -> Any:
    np.greater(x, 0, out=t)
    np.multiply(t, 1 - slope, out=t)
    np.add(t, slope, out=t)
    return np.multiply(dy, t, out=out)


def dot(a: Any, b: Any) -> Any:
    """The scalar product by NumPy's own loop; np.dot would call a BLAS with threads of its own."""
    return np.einsum("i,i->", a, b)


def prelu_backward(dy: Any, x: Any, out: Any, t: Any, alpha: float) -> Any:
    negative_part(x, t)
    dalpha = dot(dy, t)
    return leaky_relu_backward(dy, x, out, t, alpha), dalpha


def elu_backward(dy: Any, x: Any, out: Any, t: Any, alpha: float, scale: float = 1.0, bend: float = 1.0) -> Any:
    negative_part(x, t)
    if bend != 1:
        np.divide(t, bend, out=t)
    np.exp(t, out=t)
    if alpha != bend:  # elu's slope jumps at 0, celu's does not
        np.multiply(t, alpha / bend, out=t)
        np.greater(x, 0, out=out)
        np.multiply(out, 1 - alpha / bend, out=out)
        np.add(t, out, out=t)
    if scale != 1:
        np.multiply(t, scale, out=t)
    return np.multiply(dy, t, out=out)


def parametric_elu_backward(dy: Any, x: Any, out: Any, t: Any, alpha: float) -> Any:
    negative_part(x, t)
    dalpha = dot(dy, np.expm1(t, out=t))
    return elu_backward(dy, x, out, t, alpha), dalpha


def gelu_tanh_backward(dy: Any, x: Any, out: Any, t: Any) -> Any:
    square = np.multiply(x, x, out=out)
    np.multiply(square, GELU_C * GELU_A, out=t)
    np.add(t, GELU_C, out=t)
    np.multiply(t, x, out=t)
    np.tanh(t, out=t)
    slope = np.multiply(square, 3 * GELU_C * GELU_A, out=out)
    np.add(slope, GELU_C, out=slope)
    np.multiply(slope, x, out=slope)
    np.multiply(slope, 1 - t, out=slope)
    np.add(slope, 1, out=slope)
    np.add(t, 1, out=t)
    np.multiply(slope, t, out=slope)
    np.multiply(slope, 0.5, out=slope)
    return np.multiply(dy, slope, out=out)


def swish_backward(dy: Any, x: Any, out: Any, t: Any, beta: float = 1.0) -> Any:
    z = np.multiply(x, beta, out=out)
    np.negative(z, out=t)
    np.exp(t, out=t)
    np.add(t, 1, out=t)
    np.divide(1, t, out=t)
    np.multiply(z, 1 - t, out=out)
    np.add(out, 1, out=out)
    np.multiply(out, t, out=out)
    return np.multiply(dy, out, out=out)


def softplus_backward(dy: Any, x: Any, out: Any, t: Any) -> Any:
    return np.multiply(dy, sigmoid(x, out, t), out=out)


def log_sigmoid_backward(dy: Any, x: Any, out: Any, t: Any) -> Any:
    np.exp(x, out=out)
    np.add(out, 1, out=out)
    return np.divide(dy, out, out=out)


def mish_backward(dy: Any, x: Any, out: Any, t: Any) -> Any:
    """With e = exp(x) and w = e (e + 2) + 2 the slope is (e (e + 2) + 4 x e (e + 1) / w) / w."""
    np.clip(x, -math.inf, MISH_CLAMP, out=t)
    e = np.exp(t, out=t)
    n = np.add(e, 2, out=out)
    np.multiply(n, e, out=n)
    w = n + 2
    np.multiply(e, e + 1, out=e)
    np.multiply(e, 4, out=e)
    np.multiply(e, x, out=e)
    np.divide(e, w, out=e)
    np.add(n, e, out=n)
    np.divide(n, w, out=n)
    return np.multiply(dy, n, out=out)


def sigmoid_backward(dy: Any, y: Any, out: Any, t: Any) -> Any:
    np.subtract(1, y, out=t)
    np.multiply(t, y, out=t)
    return np.multiply(dy, t, out=out)


def tanh_backward(dy: Any, y: Any, out: Any, t: Any) -> Any:
    np.multiply(y, y, out=t)
    np.subtract(1, t, out=t)
    return np.multiply(dy, t, out=out)


def _inside(x: Any, t: Any, low: float, high: float) -> Any:
    return np.logical_and(x > low, x < high, out=t)


def hardtanh_backward(dy: Any, x: Any, out: Any, t: Any, low: float, high: float) -> Any:
    return np.multiply(dy, _inside(x, t, low, high), out=out)


def hardsigmoid_backward(dy: Any, x: Any, out: Any, t: Any) -> Any:
    np.multiply(_inside(x, t, -3, 3), 1 / 6, out=t)
    return np.multiply(dy, t, out=out)


def hardswish_backward(dy: Any, x: Any, out: Any, t: Any) -> Any:
    np.multiply(x, 1 / 3, out=out)
    np.add(out, 0.5, out=out)
    np.multiply(out, _inside(x, t, -3, 3), out=out)
    np.greater_equal(x, 3, out=t)
    np.add(out, t, out=out)
    return np.multiply(dy, out, out=out)


def softsign_backward(dy: Any, x: Any, out: Any, t: Any) -> Any:
    np.abs(x, out=t)
    np.add(t, 1, out=t)
    np.multiply(t, t, out=t)
    return np.divide(dy, t, out=out)


def sin_backward(dy: Any, x: Any, out: Any, t: Any) -> Any:
    return np.multiply(dy, np.cos(x, out=out), out=out)


def cos_backward(dy: Any, x: Any, out: Any, t: Any) -> Any:
    np.sin(x, out=out)
    np.negative(out, out=out)
    return np.multiply(dy, out, out=out)


BACKWARD: dict[str, Factory] = {
    "relu": bind_backward(relu_backward),
    "leaky_relu": bind_backward(leaky_relu_backward),
    "prelu": bind_backward(prelu_backward),
    "elu": bind_backward(elu_backward),
    "parametric_elu": bind_backward(parametric_elu_backward),
    "selu": bind_backward(partial(elu_backward, alpha=SELU_ALPHA, scale=SELU_LAMBDA)),
    "celu": lambda b: partial(elu_backward, b.dy, b.saved, b.out, b.scratch, b.params[0], bend=b.params[0]),
    "gelu_tanh": bind_backward(gelu_tanh_backward),
    "silu": bind_backward(swish_backward),
    "swish": bind_backward(swish_backward),
    "softplus": bind_backward(softplus_backward),
    "mish": bind_backward(mish_backward),
    "sigmoid": bind_backward(sigmoid_backward),
    "tanh": bind_backward(tanh_backward),
    "log_sigmoid": bind_backward(log_sigmoid_backward),
    "hardsigmoid": bind_backward(hardsigmoid_backward),
    "hardswish": bind_backward(hardswish_backward),
    "hardtanh": bind_backward(hardtanh_backward),
    "relu6": bind_backward(partial(hardtanh_backward, low=0, high=6)),
    "softsign": bind_backward(softsign_backward),
    "sin": bind_backward(sin_backward),
    "cos": bind_backward(cos_backward),
}

FACTORIES = both(FORWARD, BACKWARD)
