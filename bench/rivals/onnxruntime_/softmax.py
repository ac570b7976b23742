"""ONNX Runtime's softmax."""

from __future__ import annotations

from functools import partial

from ...problems.base import Buffers
from ...timing import Run
from ..base import Factory
from .library import bound, node


def _one(kind: str, b: Buffers) -> Run | None:
    return bound([node(kind, "x", "y", axis=-1)], {"x": b.x}, {}, {"y": b.out})


FACTORIES: dict[str, Factory] = {
    "softmax": partial(_one, "Softmax"),
    "log_softmax": partial(_one, "LogSoftmax"),
}
