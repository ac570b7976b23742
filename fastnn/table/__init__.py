"""The table: one row an activation (`OPS`), one row a function that is not elementwise (`FUNCTIONS`).

Tests, docstrings, benchmarks and layers are made from it. It is data and float64 oracles, and imports NumPy only.
"""

from __future__ import annotations

from fastnn.function import Argument, Function
from fastnn.op import Op, Param
from fastnn.table import (
    augmentation,
    convolution,
    dropout,
    gating,
    linear,
    losses,
    normalization,
    optimizers,
    pooling,
    regularizers,
    softmax,
    statistics,
)
from fastnn.table.activations import OPS

__all__ = ["FUNCTIONS", "OPS", "Argument", "Function", "Op", "Param"]

_FAMILIES = (
    normalization,
    dropout,
    augmentation,
    pooling,
    softmax,
    gating,
    losses,
    regularizers,
    linear,
    convolution,
    optimizers,
    statistics,
)

FUNCTIONS: dict[str, Function] = {row.name: row for family in _FAMILIES for row in family.ROWS}
