"""NumPy: the fewest calls, all with `out=` where there is one, temporaries preallocated."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from ..base import Rival, gather


class Numpy(Rival):
    name = "numpy"
    package = "numpy"
    dtypes = frozenset({"float32", "float64", "float16"})
    traced = True

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.factories = gather(__name__)

    def context(self) -> AbstractContextManager[Any]:
        return np.errstate(all="ignore")


def make(threads: int) -> Rival:
    return Numpy(threads)
