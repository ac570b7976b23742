"""Linear layers: the oracles of the table, evaluated in float64, rounded once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.kernels.reference.rounding import store, widen
from fastnn.table import FUNCTIONS

Array = npt.NDArray[Any]


def forward(x: Array, weight: Array, bias: Array | None, activation: Any, y: Array, z: Array | None) -> None:
    """y = activation(z), z = x weight^T + bias. x, y and z have two axes; bias, activation and z may be None."""
    layer = FUNCTIONS["linear"].oracle
    with np.errstate(all="ignore"):
        arguments = widen(x), widen(weight), _optional(bias)
        results = layer(*arguments, _spelled(activation)), layer(*arguments)
    store(results[0], y)
    if z is not None:
        store(results[1], z)


def backward(
    dy: Array,
    x: Array,
    weight: Array,
    saved: Array | None,
    activation: Any,
    dz: Array | None,
    dx: Array | None,
    dweight: Array | None,
    dbias: Array | None,
    accumulate: bool,
) -> None:
    """The gradients that are not None. dweight and dbias are added to where `accumulate`; dz is scratch, or None."""
    with np.errstate(all="ignore"):
        results = FUNCTIONS["linear_backward"].oracle(
            widen(dy),
            widen(x),
            widen(weight),
            _optional(saved),
            _spelled(activation),
            accumulate=accumulate,
            dweight=_optional(dweight),
            dbias=_optional(dbias),
        )
    for array, result in zip((dx, dweight, dbias), results, strict=True):
        if array is not None:
            store(result, array)


def _optional(array: Array | None) -> Array | None:
    return None if array is None else widen(array)


def _spelled(activation: Any) -> Any:
    """A checked activation as callers write it."""
    return None if activation is None else (activation.name, *activation.params)
