"""PyTorch's activations."""

from __future__ import annotations

from functools import partial
from typing import Any

from ...problems.base import Buffers
from ...timing import Run
from ..base import Factory, both
from ..numpy_.activations import SELU_ALPHA, SELU_LAMBDA
from .library import aten, nn, torch


def out(function: Any, *constants: Any, **options: Any) -> Factory:
    """`function(x, *constants, *params, out=out)`."""
    return lambda b: partial(function, b.x, *constants, *b.params, **options, out=b.out)


def grad(overload: Any, *after: Any, name: str = "grad_input", **options: Any) -> Factory:
    """`overload(dy, saved, *params, *after, grad_input=out)`."""
    return lambda b: partial(overload, b.dy, b.saved, *b.params, *after, **options, **{name: b.out})


def swish(b: Buffers) -> Run:
    x, t, y, beta = b.x, b.scratch, b.out, b.params[0]

    def run() -> Any:
        torch.mul(x, beta, out=t)
        torch.sigmoid(t, out=t)
        return torch.mul(x, t, out=y)

    return run


def softsign(b: Buffers) -> Run:
    x, y = b.x, b.out

    def run() -> Any:
        torch.abs(x, out=y)
        y.add_(1)
        return torch.div(x, y, out=y)

    return run


def prelu(b: Buffers) -> Run:
    return partial(torch.prelu, b.x, torch.tensor(b.params, dtype=b.x.dtype))


def elu_backward(b: Buffers, alpha: float, scale: float, bend: float) -> Run:
    return partial(aten.elu_backward.grad_input, b.dy, alpha, scale, bend, False, b.saved, grad_input=b.out)


def prelu_backward(b: Buffers) -> Run:
    weight = torch.tensor(b.params, dtype=b.x.dtype)
    dy, x = b.dy, b.saved

    def run() -> Any:
        dx, each = aten._prelu_kernel_backward(dy, x, weight)
        return dx, each.sum()

    return run


def parametric_elu_backward(b: Buffers) -> Run:
    dx = elu_backward(b, b.params[0], 1.0, 1.0)
    dy, x, t = b.dy, b.saved, b.scratch

    def run() -> Any:
        torch.clamp_max(x, 0, out=t)
        t.expm1_()
        return dx(), torch.dot(dy, t)

    return run


def swish_backward(b: Buffers) -> Run:
    """swish(x) = silu(beta x) / beta, so its slope is silu's at beta x."""
    dy, x, t, dx, beta = b.dy, b.saved, b.scratch, b.out, b.params[0]

    def run() -> Any:
        torch.mul(x, beta, out=t)
        return aten.silu_backward.grad_input(dy, t, grad_input=dx)

    return run


def log_sigmoid_backward(b: Buffers) -> Run:
    """ATen's forward saves exp(-|x|) in a buffer, and its backward reads it."""
    _, buffer = aten.log_sigmoid_forward(b.saved)
    return partial(aten.log_sigmoid_backward.grad_input, b.dy, b.saved, buffer, grad_input=b.out)


def softsign_backward(b: Buffers) -> Run:
    dy, x, t, dx = b.dy, b.saved, b.scratch, b.out

    def run() -> Any:
        torch.abs(x, out=t)
        t.add_(1)
        t.square_()
        return torch.div(dy, t, out=dx)

    return run


def sin_backward(b: Buffers) -> Run:
    dy, x, dx = b.dy, b.saved, b.out

    def run() -> Any:
        torch.cos(x, out=dx)
        return dx.mul_(dy)

    return run


def cos_backward(b: Buffers) -> Run:
    dy, x, dx = b.dy, b.saved, b.out

    def run() -> Any:
        torch.sin(x, out=dx)
        dx.mul_(dy)
        return dx.neg_()

    return run


FORWARD: dict[str, Factory] = {
    "relu": out(torch.clamp_min, 0),  # ATen's relu.out is slower than the clamp it amounts to
    "leaky_relu": out(nn.leaky_relu),
    "prelu": prelu,
    "elu": out(nn.elu),
    "parametric_elu": out(nn.elu),
    "selu": out(nn.elu, SELU_ALPHA, SELU_LAMBDA),
    "celu": lambda b: partial(aten.celu.out, b.x, b.params[0], out=b.out),
    "gelu": out(nn.gelu),
    "gelu_tanh": out(nn.gelu, approximate="tanh"),
    "silu": out(nn.silu),
    "swish": swish,
    "softplus": out(nn.softplus),
    "mish": out(nn.mish),
    "sigmoid": out(torch.sigmoid),
    "tanh": out(torch.tanh),
    "log_sigmoid": out(nn.log_sigmoid),
    "hardsigmoid": out(nn.hardsigmoid),
    "hardswish": out(nn.hardswish),
    "hardtanh": out(nn.hardtanh),
    "relu6": out(nn.hardtanh, 0, 6),
    "softsign": softsign,
    "sin": out(torch.sin),
    "cos": out(torch.cos),
}

BACKWARD: dict[str, Factory] = {
    "relu": grad(aten.threshold_backward.grad_input, 0),
    "leaky_relu": grad(aten.leaky_relu_backward.grad_input, False),
    "prelu": prelu_backward,
    "elu": lambda b: elu_backward(b, b.params[0], 1.0, 1.0),
    "parametric_elu": parametric_elu_backward,
    "selu": lambda b: elu_backward(b, SELU_ALPHA, SELU_LAMBDA, 1.0),
    "celu": lambda b: elu_backward(b, b.params[0], 1.0, 1 / b.params[0]),
    "gelu": grad(aten.gelu_backward.grad_input),
    "gelu_tanh": grad(aten.gelu_backward.grad_input, approximate="tanh"),
    "silu": grad(aten.silu_backward.grad_input),
    "swish": swish_backward,
    "softplus": grad(aten.softplus_backward.grad_input, 1, 20),
    "mish": lambda b: partial(aten.mish_backward.default, b.dy, b.saved),
    "sigmoid": grad(aten.sigmoid_backward.grad_input),
    "tanh": grad(aten.tanh_backward.grad_input),
    "log_sigmoid": log_sigmoid_backward,
    "hardsigmoid": grad(aten.hardsigmoid_backward.grad_input),
    "hardswish": grad(aten.hardswish_backward.out, name="out"),
    "hardtanh": grad(aten.hardtanh_backward.grad_input),
    "relu6": grad(aten.hardtanh_backward.grad_input, 0, 6),
    "softsign": softsign_backward,
    "sin": sin_backward,
    "cos": cos_backward,
}

FACTORIES = both(FORWARD, BACKWARD)
