"""maxout, glu and swiglu by their rows' oracles, in float64, rounded once to float32 and from that to 16 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.kernels.reference.rounding import store, widen
from fastnn.table.gating import ROWS

Array = npt.NDArray[Any]

_ORACLES = {row.name: row.oracle for row in ROWS}


def _evaluate(name: str, out: Array, *arrays: Array, **options: Any) -> None:
    """The oracle of `name` along axis 1 of x, (outer, parts, inner); other arrays are (outer, inner)."""
    wide = [widen(array) for array in arrays]
    with np.errstate(all="ignore"):
        exact = _ORACLES[name](*(np.expand_dims(w, 1) if w.ndim == 2 else w for w in wide), axis=1, **options)
        store(exact.reshape(out.shape), out)


def maxout(x: Array, out: Array) -> None:
    """Write the largest along axis 1 of `x`, (outer, pieces, inner), to `out`, (outer, inner)."""
    _evaluate("maxout", out, x, pieces=x.shape[1])


def maxout_backward(dy: Array, x: Array, out: Array) -> None:
    """Write `dy` to the place of the first of the largest, and 0 elsewhere."""
    _evaluate("maxout_backward", out, dy, x, pieces=x.shape[1])


def glu(x: Array, out: Array) -> None:
    """a sigmoid(b) of the halves a, b of `x`, (outer, 2, inner)."""
    _evaluate("glu", out, x)


def glu_backward(dy: Array, x: Array, out: Array) -> None:
    """Write the gradient of glu."""
    _evaluate("glu_backward", out, dy, x)


def swiglu(x: Array, out: Array) -> None:
    """silu(a) b of the halves a, b of `x`, (outer, 2, inner)."""
    _evaluate("swiglu", out, x)


def swiglu_backward(dy: Array, x: Array, out: Array) -> None:
    """Write the gradient of swiglu."""
    _evaluate("swiglu_backward", out, dy, x)
