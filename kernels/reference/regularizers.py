"""Penalties on weights in plain NumPy, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.kernels.reference.rounding import store, widen

Array = npt.NDArray[Any]


def penalty(w: Array, grad: Array | None, quadratic: float | None, linear: float | None) -> tuple[float, float]:
    """(sum of squares, sum of magnitudes) of `w`; `grad`, if there is one, += 2 quadratic w + linear sign(w).

    A coefficient of None leaves its term out; its sum is then 0.
    """
    wide = widen(w)
    with np.errstate(all="ignore"):
        if grad is not None:
            sum = widen(grad)
            if quadratic is not None:
                sum += 2 * quadratic * wide
            if linear is not None:
                sum += linear * np.sign(wide)
            store(sum, grad)
        squares = 0.0 if quadratic is None else float(np.sum(wide * wide))
        return squares, 0.0 if linear is None else float(np.sum(np.abs(wide)))
