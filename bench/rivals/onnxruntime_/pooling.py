"""ONNX Runtime's pooling."""

from __future__ import annotations

from functools import partial
from typing import Any

from ...problems.base import Buffers
from ...timing import Run
from ..base import Factory
from .library import bound, node


def _pool(kind: str, b: Buffers, **options: Any) -> Run | None:
    dims, kernel = b.x.ndim - 2, b.kernel_size
    geometry: dict[str, Any] = {
        "kernel_shape": [kernel] * dims,
        "strides": [b.get("stride") or kernel] * dims,
        "pads": [b.get("padding", 0)] * (2 * dims),
    }
    return bound([node(kind, "x", "y", **geometry, **options)], {"x": b.x}, {}, {"y": b.out})


def whole(b: Buffers) -> Run | None:
    y = b.out.reshape(*b.out.shape, *(1,) * (b.x.ndim - 2))
    return bound([node("GlobalAveragePool", "x", "y")], {"x": b.x}, {}, {"y": y})


FACTORIES: dict[str, Factory] = {
    "global_avg_pool": whole,
    **{f"max_pool{dims}d": partial(_pool, "MaxPool") for dims in (1, 2, 3)},
    **{f"avg_pool{dims}d": partial(_pool, "AveragePool", count_include_pad=1) for dims in (1, 2, 3)},
}
