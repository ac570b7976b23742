"""softmax and log-softmax by their rows' oracles, in float64, rounded once to float32 and from that to 16 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.kernels.reference.rounding import store, widen
from fastnn.table.softmax import ROWS

Array = npt.NDArray[Any]

_ORACLES = {row.name: row.oracle for row in ROWS}


def evaluate(name: str, out: Array, *arrays: Array) -> None:
    """The oracle of `name` along axis 1 of (outer, classes, inner)."""
    with np.errstate(all="ignore"):
        store(_ORACLES[name](*map(widen, arrays), 1), out)


def softmax(x: Array, out: Array) -> None:
    """y = e^x / sum of e^x along axis 1; `out` may be `x`."""
    evaluate("softmax", out, x)


def log_softmax(x: Array, out: Array) -> None:
    """Write the logarithm of softmax; `out` may be `x`."""
    evaluate("log_softmax", out, x)


def softmax_backward(dy: Array, y: Array, out: Array) -> None:
    """dx = y (dy - sum of dy y along axis 1); `out` may be `dy` or `y`."""
    evaluate("softmax_backward", out, dy, y)


def log_softmax_backward(dy: Array, y: Array, out: Array) -> None:
    """dx = dy - e^y sum of dy along axis 1; `out` may be `dy` or `y`."""
    evaluate("log_softmax_backward", out, dy, y)
