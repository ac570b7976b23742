"""What tests share: arguments worth trying, exact results, and the check of a promise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.op import Op
from fastnn.oracle import numpy64
from fastnn.sweep import landmarks
from fastnn.ulp import FLOAT32, Tally, measure, prepare

Array = npt.NDArray[Any]


def arguments(op: Op, dtype: Any = np.float32, count: int = 1000, seed: int = 0) -> Array:
    """Landmarks of the op and `count` random numbers of every magnitude that float32 has."""
    rng = np.random.default_rng(seed)
    half = count // 2
    wide = np.ldexp(rng.uniform(1, 2, half), rng.integers(-126, 127, half)) * rng.choice([-1, 1], half)
    middle = rng.uniform(-10, 10, count - half)
    with np.errstate(all="ignore"):
        return np.concatenate([landmarks(op, np.float32), wide, middle]).astype(dtype)


def saved(op: Op, x: Array, params: Sequence[float] = ()) -> Array:
    """What backward is given for the input `x`: x, or y rounded to x's dtype."""
    if op.saves == "input":
        return x
    with np.errstate(all="ignore"):
        return np.asarray(op.forward(numpy64, x, *params)).astype(x.dtype)


def forward_tally(op: Op, x: Array, got: Array, params: Sequence[float] = ()) -> Tally:
    """Measure float32 results of forward. Parameters are rounded to float32, as every backend does."""
    params = [float(np.float32(value)) for value in params]
    return measure(prepare(FLOAT32, x, op.forward(numpy64, x, *params)), got)


def backward_tally(op: Op, dy: Array, saved: Array, got: Array, params: Sequence[float] = ()) -> Tally:
    """Measure float32 results dx of backward."""
    params = [float(np.float32(value)) for value in params]
    gradient = op.gradient(numpy64, saved, *params)
    near = op.near_zero(saved, params) if op.zeros else None
    with np.errstate(all="ignore"):
        return measure(prepare(FLOAT32, saved, gradient * dy, gradient=gradient, dy=dy, near=near), got)


def assert_promise(op: Op, direction: str, tally: Tally) -> None:
    """Assert that a tally is within the op's promise."""
    bound = op.forward_ulp if direction == "forward" else op.backward_ulp
    assert tally.normal.error <= bound, tally.normal
    assert tally.subnormal.error <= 1.0, tally.subnormal
    assert tally.near_zero.error <= FLOAT32.near_zero, tally.near_zero
    assert tally.mismatches == 0, tally.mismatch
