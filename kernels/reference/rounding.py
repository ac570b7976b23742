"""How the reference computes: everything widened to float64, results rounded once, through float32 to 16 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def compute_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype that parameters, and gradients of parameters, have beside an array of `dtype`."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def widen(value: Array) -> Array:
    """`value` in float64."""
    with np.errstate(all="ignore"):  # a signalling NaN is not worth a warning
        return value.astype(np.float64)


def rounded(value: Array, dtype: np.dtype[Any]) -> Array:
    """A float64 result in `dtype`."""
    with np.errstate(all="ignore"):
        return np.asarray(value, np.float64).astype(compute_dtype(dtype)).astype(dtype, copy=False)


def store(value: Array, out: Array) -> None:
    """Write a float64 result, rounded, into `out`. `out` may be what the result was computed from."""
    out[...] = rounded(value, out.dtype)
