"""Penalties on weights. Source: regularizers.cu.

Sums stay on the device: arrays of shape () and dtype float64 where the other backends return floats.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels.cuda.compiler import Family, launch
from fastnn.kernels.cuda.sums import ADD_UP, added_up, blocks, partial_sums, threads

Array = Any

FAMILY = Family(
    "regularizers", *(f"penalty<{{T}}, {terms}>" for terms in ("true, false", "false, true", "true, true")), ADD_UP
)


def penalty(
    w: Array, grad: Array | None, quadratic: float | None, linear: float | None
) -> tuple[Array | float, Array | float]:
    """(sum of squares, sum of magnitudes) of `w`; `grad`, if there is one, += 2 quadratic w + linear sign(w).

    A coefficient of None leaves its term out; its sum is then 0.
    """
    if w.size == 0 or (quadratic is None and linear is None):
        return 0.0, 0.0
    terms = ", ".join("false" if each is None else "true" for each in (quadratic, linear))
    numbers = (np.float64(0 if each is None else each) for each in (quadratic, linear))
    partial = partial_sums(w.size, 2)
    kernel = FAMILY.kernel(f"penalty<{{T}}, {terms}>", w.dtype)
    launch(kernel, blocks(w.size), w, grad, partial, w.size, *numbers, threads=threads(w.size))
    squares, magnitudes = added_up(FAMILY, w.dtype, partial, 2)
    return squares, magnitudes
