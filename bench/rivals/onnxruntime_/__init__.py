"""ONNX Runtime: a model of a node or two a function, inputs and outputs bound to the shared memory; no backward."""

from __future__ import annotations

from ..base import Rival, gather
from . import library


class OnnxRuntime(Rival):
    name = "onnxruntime"
    package = "onnxruntime"
    dtypes = frozenset({"float32", "float64", "float16"})

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        library.options.intra_op_num_threads = threads
        self.factories = gather(__name__)


def make(threads: int) -> Rival:
    return OnnxRuntime(threads)
