"""ONNX Runtime's convolution: constant weights, which it packs beforehand, and the activation it fuses."""

from __future__ import annotations

from ...problems.base import Buffers
from ...timing import Run
from ..base import Factory
from .library import bound, node


def conv2d(b: Buffers) -> Run | None:
    fused = b.get("activation") == "relu"
    options = {
        "strides": [b.get("stride", 1)] * 2,
        "pads": [b.get("padding", 0)] * 4,
        "group": b.get("groups", 1),
    }
    nodes = [node("Conv", "x weight bias", "z" if fused else "y", **options)]
    if fused:
        nodes.append(node("Relu", "z", "y"))
    return bound(nodes, {"x": b.x}, {"weight": b.weight, "bias": b.bias}, {"y": b.out})


FACTORIES: dict[str, Factory] = {"conv2d": conv2d}
