"""The activations: the formulas of the table, evaluated in float64 and rounded once.

float16 and bfloat16 are rounded from the result in float32. float64 arguments get the float64
formulas as they are, which in the far tails of gelu, gelu_tanh, celu and swish are some hundred ULP off.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.broadcast import align_parameter, reduce_to
from fastnn.kernels.reference.rounding import compute_dtype, rounded, store, widen
from fastnn.op import Op
from fastnn.oracle import numpy64
from fastnn.table.activations import OPS

__all__ = ["backward", "compute_dtype", "forward"]

Array = npt.NDArray[Any]


def forward(name: str, x: Array, *params: Any, out: Array | None = None) -> Array:
    """Evaluate the activation `name` at `x`."""
    op = OPS[name]
    y = op.forward(numpy64, widen(x), *_parameters(op, x, params))
    return _store(y, x.dtype, out)


def backward(name: str, dy: Array, saved: Array, *params: Any, out: Array | None = None) -> Array | tuple[Array, Array]:
    """dx from dy, or (dx, dparam) where the op has a learned parameter; `out` receives dx."""
    op = OPS[name]
    aligned = _parameters(op, saved, params)
    wide, incoming = widen(saved), widen(dy)
    with np.errstate(all="ignore"):
        dx = incoming * op.gradient(numpy64, wide, *aligned)
        if op.param_gradient is None or op.learned is None:
            return _store(dx, saved.dtype, out)
        dparam = incoming * op.param_gradient(numpy64, wide, *aligned)
    dparam = reduce_to(np.asarray(dparam), np.shape(params[op.learned]))
    return _store(dx, saved.dtype, out), rounded(dparam, compute_dtype(saved.dtype))


def _parameters(op: Op, x: Array, params: tuple[Any, ...]) -> list[Array]:
    """Parameters rounded to the compute dtype, then widened; the learned one aligned with `x`."""
    arrays = [np.asarray(value, compute_dtype(x.dtype)).astype(np.float64) for value in params]
    if op.learned is not None:
        arrays[op.learned] = align_parameter(x.shape, arrays[op.learned])
    return arrays


def _store(value: Array, dtype: np.dtype[Any], out: Array | None) -> Array:
    """The rounded result, in `out` where there is one. `out` may alias an input, so it is written last."""
    if out is None:
        return rounded(value, dtype)
    store(value, out)
    return out
