"""ONNX Runtime's dropout, which its CPU build has for training too."""

from __future__ import annotations

import numpy as np

from ...problems.base import Buffers
from ...problems.dropout import SEED, P
from ...timing import Run
from ..base import Factory
from .library import bound, node


def dropout(b: Buffers) -> Run | None:
    constants = {"ratio": np.asarray(P, b.x.dtype), "training": np.asarray(True)}
    one = node("Dropout", "x ratio training", "y", seed=SEED)
    return bound([one], {"x": b.x}, constants, {"y": b.out})


FACTORIES: dict[str, Factory] = {"dropout": dropout}
