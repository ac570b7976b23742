"""ONNX Runtime's linear layer: Gemm with constant weights, which it packs beforehand, and the activation it fuses."""

from __future__ import annotations

from ...problems.base import Buffers
from ...timing import Run
from ..base import Factory
from .library import bound, node


def linear(b: Buffers) -> Run | None:
    fused = b.get("activation") == "relu"
    nodes = [node("Gemm", "x weight bias", "z" if fused else "y", transB=1)]
    if fused:
        nodes.append(node("Relu", "z", "y"))
    return bound(nodes, {"x": b.x}, {"weight": b.weight, "bias": b.bias.astype(b.x.dtype)}, {"y": b.out})


FACTORIES: dict[str, Factory] = {"linear": linear}
