"""The table: one row an activation (`OPS`), one row a function that is not elementwise (`FUNCTIONS`).

Tests, docstrings, benchmarks and layers are made from it. It is data and float64 oracles, and imports NumPy only.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fastnn.function import Argument, Function
from fastnn.op import Op, Param
from fastnn.table.activations import OPS

__all__ = ["FUNCTIONS", "OPS", "Argument", "Function", "Op", "Param"]

_FAMILIES = (
    "normalization",
    "dropout",
    "augmentation",
    "pooling",
    "softmax",
    "gating",
    "losses",
    "regularizers",
    "linear",
    "convolution",
    "optimizers",
    "statistics",
)

if TYPE_CHECKING:
    FUNCTIONS: dict[str, Function]
else:

    def __getattr__(name: str) -> Any:
        """All rows, gathered when they are first asked for: a family needs its own only."""
        if name != "FUNCTIONS":
            raise AttributeError(f"module 'fastnn.table' has no attribute {name!r}")
        families = (importlib.import_module(f"fastnn.table.{family}") for family in _FAMILIES)
        found = globals()["FUNCTIONS"] = {row.name: row for family in families for row in family.ROWS}
        return found
