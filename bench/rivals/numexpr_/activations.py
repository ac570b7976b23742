"""numexpr's activations, as expressions."""

from __future__ import annotations

from ...problems.base import Buffers
from ...timing import Run
from ..base import Factory
from ..numpy_.activations import GELU_A, GELU_C, MISH_CLAMP, SELU_ALPHA, SELU_LAMBDA
from . import expression

CONSTANTS = {
    "selu_negative": SELU_ALPHA * SELU_LAMBDA,
    "selu_positive": SELU_LAMBDA,
    "gelu_c": GELU_C,
    "gelu_ca": GELU_C * GELU_A,
    "gelu_3ca": 3 * GELU_C * GELU_A,
    "half": 0.5,
    "third": 1 / 3,
    "sixth": 1 / 6,
    "clamp": MISH_CLAMP,
}

# p and q stand for the op's parameters. Common subexpressions are recognised by numexpr's compiler.
FORWARD = {
    "relu": "where(x < 0, 0, x)",
    "leaky_relu": "where(x > 0, x, p * x)",
    "prelu": "where(x > 0, x, p * x)",
    "elu": "where(x > 0, x, p * expm1(x))",
    "parametric_elu": "where(x > 0, x, p * expm1(x))",
    "selu": "where(x > 0, selu_positive * x, selu_negative * expm1(x))",
    "celu": "where(x > 0, x, p * expm1(x / p))",
    "gelu_tanh": "half * x * (1 + tanh(x * (gelu_c + gelu_ca * x * x)))",
    "silu": "x / (1 + exp(-x))",
    "swish": "x / (1 + exp(-p * x))",
    "softplus": "where(x > 0, x, 0) + log1p(exp(-abs(x)))",
    "mish": "x * tanh(where(x > 0, x, 0) + log1p(exp(-abs(x))))",
    "sigmoid": "1 / (1 + exp(-x))",
    "tanh": "tanh(x)",
    "log_sigmoid": "where(x < 0, x, 0) - log1p(exp(-abs(x)))",
    "hardsigmoid": "where(x <= -3, 0, where(x >= 3, 1, (x + 3) * sixth))",
    "hardswish": "where(x <= -3, 0, where(x >= 3, x, x * (x + 3) * sixth))",
    "hardtanh": "where(x < p, p, where(x > q, q, x))",
    "relu6": "where(x < 0, 0, where(x > 6, 6, x))",
    "softsign": "x / (1 + abs(x))",
    "sin": "sin(x)",
    "cos": "cos(x)",
}

# No entry where the learned parameter's gradient is due too: numexpr gives one result an expression.
BACKWARD = {
    "relu": "where(s > 0, dy, 0)",
    "leaky_relu": "where(s > 0, dy, p * dy)",
    "elu": "where(s > 0, dy, dy * p * exp(s))",
    "selu": "where(s > 0, selu_positive * dy, selu_negative * dy * exp(s))",
    "celu": "where(s > 0, dy, dy * exp(s / p))",
    "gelu_tanh": "dy * half * (1 + tanh(s * (gelu_c + gelu_ca * s * s)))"
    " * (1 + s * (gelu_c + gelu_3ca * s * s) * (1 - tanh(s * (gelu_c + gelu_ca * s * s))))",
    "silu": "dy / (1 + exp(-s)) * (1 + s / (1 + exp(s)))",
    "swish": "dy / (1 + exp(-p * s)) * (1 + p * s / (1 + exp(p * s)))",
    "softplus": "dy / (1 + exp(-s))",
    "sigmoid": "dy * s * (1 - s)",
    "tanh": "dy * (1 - s * s)",
    "log_sigmoid": "dy / (1 + exp(s))",
    "hardsigmoid": "where((s > -3) & (s < 3), dy * sixth, 0)",
    "hardswish": "where(s <= -3, 0, where(s >= 3, dy, dy * (s * third + half)))",
    "hardtanh": "where((s > p) & (s < q), dy, 0)",
    "relu6": "where((s > 0) & (s < 6), dy, 0)",
    "softsign": "dy / ((1 + abs(s)) * (1 + abs(s)))",
    "sin": "dy * cos(s)",
    "cos": "-dy * sin(s)",
}


def factory(text: str) -> Factory:
    def bind(b: Buffers) -> Run:
        arrays = {"x": b.x, "dy": b.dy, "s": b.saved}  # s is what backward is given: the input or the output
        return expression.compiled(text, arrays, CONSTANTS | dict(zip("pq", b.params, strict=False)), b.out)

    return bind


FACTORIES = {
    name: factory(text) for name, text in (FORWARD | {f"{op}_backward": text for op, text in BACKWARD.items()}).items()
}
