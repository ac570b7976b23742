"""SciPy: the special functions it offers as ufuncs, and what a step or two of NumPy makes of them."""

from __future__ import annotations

from ..base import Rival, gather
from ..numpy_ import Numpy


class Scipy(Numpy):
    name = "scipy"
    package = "scipy"
    dtypes = frozenset({"float32", "float64"})

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.factories = gather(__name__)


def make(threads: int) -> Rival:
    return Scipy(threads)
