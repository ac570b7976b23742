"""What the loops of all norms share for Numba: conversions, threads, and what is applied to whole results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from fastnn.fusion import Fused
from fastnn.kernels.jit import forward
from fastnn.kernels.jit.dropout import scaled
from fastnn.kernels.jit.parallel import run_ranges

Array = npt.NDArray[Any]

OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy", "boundscheck": False}
SUMS = {**OPTIONS, "fastmath": {"reassoc"}}  # sums may be taken in any order, and nothing else is changed


def wide_of(x: Array) -> Array:
    return x.astype(np.float32) if x.itemsize == 2 else x


def room_for(y: Array) -> Array:
    return np.empty(y.shape, np.float32) if y.itemsize == 2 else y


def finish(
    result: Array,
    y: Array,
    activation: Fused | None = None,
    dropout: tuple[int, float, int, int] | None = None,
) -> None:
    if activation is not None:
        forward(activation.name, result, *activation.params, out=result)
    if dropout is not None:
        threshold, scale, seed, offset = dropout
        scaled(result, result, 0, threshold, scale, seed, offset)
    if result is not y:
        with np.errstate(all="ignore"):
            y[...] = result


def over(count: int, size: int, function: Callable[[int, int], None]) -> None:
    """Call function(begin, end) for ranges that make up `count` parts of `size` elements, on several threads."""
    each = max(1, size // count)
    run_ranges(
        size, lambda begin, end: function(min(count, -(-begin // each)), count if end == size else -(-end // each))
    )


@njit(**OPTIONS)
def near(x: Any) -> Any:
    """A finite number near x."""
    return x if np.isfinite(x) else type(x)(0)


def store_sums(sums: Array, dgamma: Array | None, dbeta: Array | None, accumulate: bool) -> None:
    """The gradients of gamma and beta, where they are wanted."""
    for out, value in ((dgamma, sums[0]), (dbeta, sums[1])):
        if out is not None:
            with np.errstate(all="ignore"):
                out[...] = value + out if accumulate else value
