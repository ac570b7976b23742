"""softmax and log-softmax along axis 1 of (outer, classes, inner). Source: softmax.cu."""

from __future__ import annotations

from typing import Any

from fastnn.kernels.cuda.classes import expressions, launch_columns
from fastnn.kernels.cuda.compiler import Family

Array = Any

_KERNELS = [f"softmax_{which}<{{T}}, {log}" for which in ("forward", "backward") for log in ("false", "true")]
FAMILY = Family("softmax", *expressions(*_KERNELS))


def _run(kernel: int, out: Array, *arrays: Array) -> None:
    if out.size:
        launch_columns(FAMILY, _KERNELS[kernel], out, *arrays, out)


def softmax(x: Array, out: Array) -> None:
    """y = e^x / sum of e^x along axis 1; `out` may be `x`."""
    _run(0, out, x)


def log_softmax(x: Array, out: Array) -> None:
    """Write the logarithm of softmax; `out` may be `x`."""
    _run(1, out, x)


def softmax_backward(dy: Array, y: Array, out: Array) -> None:
    """dx = y (dy - sum of dy y along axis 1); `out` may be `dy` or `y`."""
    _run(2, out, dy, y)


def log_softmax_backward(dy: Array, y: Array, out: Array) -> None:
    """dx = dy - e^y sum of dy along axis 1; `out` may be `dy` or `y`."""
    _run(3, out, dy, y)
