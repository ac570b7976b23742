"""numexpr: one compiled expression a function, called with `out=`."""

from __future__ import annotations

from ..base import Rival, gather
from .expression import numexpr


class Numexpr(Rival):
    name = "numexpr"
    package = "numexpr"

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.factories = gather(__name__)
        numexpr.set_num_threads(threads)


def make(threads: int) -> Rival:
    return Numexpr(threads)
