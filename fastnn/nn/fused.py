"""What layers that apply an activation to their own result need to know about it."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from fastnn import fusion
from fastnn.table import OPS

Fused = str | tuple[Any, ...] | None

_SAME_SIGNS = {"relu", "relu6", "hardtanh"}  # whose derivative depends on comparisons that y answers as x does


def saves_output(activation: Fused) -> bool:
    """Can backward take y for the activation's input, with the same bits? Then the input need not be kept.

    Of no activation there is nothing to keep either.
    """
    if activation is None:
        return True
    name, *params = (activation,) if isinstance(activation, str) else activation
    if name == "leaky_relu":  # y > 0 where x > 0 and nowhere else, and NaN only where x is, if the slope is positive
        return not params or params[0] > 0
    return name in _SAME_SIGNS or OPS[name].saves == "output"


@functools.lru_cache(maxsize=256)
def checked(activation: Fused, dtype: np.dtype[Any]) -> fusion.Fused | None:
    """What kernels take of an activation beside arrays of `dtype`."""
    return fusion.fused("activation", activation, dtype)
