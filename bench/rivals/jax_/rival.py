"""JAX as a contender."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...problems.base import Array
from ..base import Rival, gather
from .library import jax


class Jax(Rival):
    name = "jax"
    package = "jax"
    dtypes = frozenset({"float32", "float64", "float16", "bfloat16"})

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.factories = gather(__package__ or "")

    def view(self, array: Array) -> Any:
        try:
            return jax.numpy.from_dlpack(array)  # the shared memory itself
        except Exception:  # bfloat16, which NumPy cannot export
            return jax.numpy.asarray(array)

    def array(self, result: Any) -> Array:
        # a copy: the buffer is donated to the next call
        return np.array(result)
