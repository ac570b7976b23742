"""PyTorch, eager: `out=` kernels over the shared memory, backward by ATen's own backward kernels, in inference mode.

ATen's backward kernels have no Python binding of their own; `torch.ops.aten` costs about a microsecond a call more than
one, which shows at 1,000 elements only. Where ATen has no `out=` form the result is allocated, as it is for every user.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from ...problems.base import Array, dtype_of
from ..base import Factory, Rival, gather
from .library import torch


def factories() -> dict[str, Factory]:
    """By public function of fastnn."""
    return gather(__name__)


class Torch(Rival):
    name = "torch"
    package = "torch"
    dtypes = frozenset({"float32", "float64", "float16", "bfloat16"})

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.factories = factories()
        torch.set_num_threads(threads)

    def version(self) -> str:
        return str(torch.__version__)

    def context(self) -> AbstractContextManager[Any]:
        return torch.inference_mode()  # type: ignore[no-any-return]

    def view(self, array: Array) -> Any:
        if array.dtype.name == "bfloat16":  # NumPy's bfloat16 is a stranger to torch; the bits are the same
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(array)

    def array(self, result: Any) -> Array:
        if not isinstance(result, torch.Tensor):
            return np.asarray(result)
        if result.dtype == torch.bfloat16:
            return np.asarray(result.contiguous().view(torch.int16).numpy().view(dtype_of("bfloat16")))
        return np.asarray(result.numpy())


def make(threads: int) -> Rival:
    return Torch(threads)
