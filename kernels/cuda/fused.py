"""Activations as parts of kernels: their C++ types (fused.cuh), and the numbers that go with them."""

from __future__ import annotations

from typing import Any

from fastnn.fusion import Fused
from fastnn.kernels.cuda.compiler import scalar
from fastnn.table.activations import OPS

NONE = "fastnn::cuda::none"


def cxx(name: str | None) -> str:
    """The type that applies an activation, or nothing."""
    if name is None:
        return NONE
    op = OPS[name]
    saves = "true" if op.saves == "output" else "false"
    return f"fastnn::cuda::fused<fastnn::activation::{name}, {len(op.params)}, {saves}>"


def expressions(*kernels: str) -> tuple[str, ...]:
    """Kernels, {A} in their names standing for an activation, for every activation."""
    return tuple(kernel.replace("{A}", cxx(name)) for kernel in kernels for name in OPS)


def numbers(activation: Fused | None, dtype: Any) -> tuple[Any, Any]:
    """The two parameters that every kernel takes; 0 for those that an activation has not."""
    given = () if activation is None else activation.params
    first, second = (*given, 0.0, 0.0)[:2]
    return scalar(first, dtype), scalar(second, dtype)
