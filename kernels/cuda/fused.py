"""Activations as parts of kernels: their C++ types (fused.cuh), and the numbers that go with them."""

from __future__ import annotations

from typing import Any

from fastnn.fusion import Fused
from fastnn.kernels.cuda.compiler import Family, scalar
from fastnn.table.activations import OPS

NONE = "fastnn::cuda::none"
_TYPES = {
    name: f"fastnn::cuda::fused<fastnn::activation::{name}, {len(op.params)}, {str(op.saves == 'output').lower()}>"
    for name, op in OPS.items()
}


def cxx(activation: Fused | None) -> str:
    """The type that applies an activation, or nothing."""
    return NONE if activation is None else _TYPES[activation.name]


def expressions(*kernels: str) -> tuple[str, ...]:
    """Kernels, {A} in their names standing for an activation, for every activation and for none."""
    return tuple(kernel.replace("{A}", name) for kernel in kernels for name in (NONE, *_TYPES.values()))


LAYERS = Family(
    "fused_layers",
    *expressions("finish_rows<{T}, {A}>", "finish_images<{T}, {A}>", "slopes<{T}, {A}>"),
    separately=True,
)


def numbers(activation: Fused | None, dtype: Any) -> tuple[Any, Any]:
    """The two parameters that every kernel takes; 0 for those that an activation has not."""
    given = () if activation is None else activation.params
    first, second = (*given, 0.0, 0.0)[:2]
    return scalar(first, dtype), scalar(second, dtype)
