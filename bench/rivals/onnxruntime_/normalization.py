"""ONNX Runtime's normalisation, for inference; parameters are constants of the model."""

from __future__ import annotations

from typing import Any

from ...problems.base import Array, Buffers
from ...problems.normalization import EPS
from ...timing import Run
from ..base import Factory
from .library import bound, node

FLOAT, DOUBLE = 1, 11


def _graph(b: Buffers, kind: str, names: str, **attributes: Any) -> Run | None:
    constants: dict[str, Array] = {name: b.values[name].astype(b.x.dtype) for name in names.split(" ")}
    fused = b.get("activation") == "relu"
    nodes = [node(kind, f"x {names}", "z" if fused else "y", **attributes)]
    if fused:
        nodes.append(node("Relu", "z", "y"))
    return bound(nodes, {"x": b.x}, constants, {"y": b.out})


def _stash(b: Buffers) -> int:
    """The ONNX type that statistics are computed in."""
    return DOUBLE if b.x.dtype == "float64" else FLOAT


FACTORIES: dict[str, Factory] = {
    "batch_norm_infer": lambda b: _graph(b, "BatchNormalization", "gamma beta running_mean running_var", epsilon=EPS),
    "layer_norm": lambda b: _graph(b, "LayerNormalization", "gamma beta", epsilon=EPS, axis=-1, stash_type=_stash(b)),
    "group_norm": lambda b: _graph(
        b, "GroupNormalization", "gamma beta", epsilon=EPS, num_groups=b.groups, stash_type=_stash(b)
    ),
    "instance_norm": lambda b: _graph(b, "InstanceNormalization", "gamma beta", epsilon=EPS),
    "rms_norm": lambda b: _graph(b, "SimplifiedLayerNormalization", "gamma", epsilon=EPS, axis=-1),
}
