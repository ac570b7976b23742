"""ONNX Runtime's convolution: constant weights, which it packs beforehand, and the activation it fuses."""

from __future__ import annotations

from typing import Any

from ...problems.base import Buffers
from ...timing import Run
from ..base import Factory
from .library import bound, node


def convolution(b: Buffers) -> Run | None:
    fused, dims = b.get("activation") == "relu", b.x.ndim - 2
    options: dict[str, Any] = {
        "strides": [b.get("stride", 1)] * dims,
        "pads": [b.get("padding", 0)] * (2 * dims),
        "group": b.get("groups", 1),
    }
    nodes = [node("Conv", "x weight bias", "z" if fused else "y", **options)]
    if fused:
        nodes.append(node("Relu", "z", "y"))
    return bound(nodes, {"x": b.x}, {"weight": b.weight, "bias": b.bias.astype(b.x.dtype)}, {"y": b.out})


FACTORIES: dict[str, Factory] = {"conv1d": convolution, "conv2d": convolution}
