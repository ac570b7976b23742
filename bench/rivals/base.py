"""What a contender is: a library with a mapping from op names to the best way it has of computing them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import numpy as np

from ..cases import Array, Buffers, Case
from ..machine import version
from ..timing import Run, Task

Factory = Callable[[Buffers], Run]


class Rival:
    """A library under test. An op that `forward` or `backward` does not name is one the library does not offer."""

    name: ClassVar[str]
    package: ClassVar[str]  # distribution name, for the version
    dtypes: ClassVar[frozenset[str]] = frozenset({"float32", "float64"})
    forward: Mapping[str, Factory] = {}
    backward: Mapping[str, Factory] = {}

    def __init__(self, threads: int) -> None:
        self.threads = threads

    @property
    def label(self) -> str:
        return self.name

    def version(self) -> str:
        return version(self.package) or "unknown"

    def factory(self, op: str, direction: str) -> Factory | None:
        return (self.forward if direction == "forward" else self.backward).get(op)

    def supports(self, case: Case) -> bool:
        return case.dtype in self.dtypes and self.factory(case.op, case.direction) is not None

    def views(self, buffers: Buffers, case: Case) -> Buffers:
        """The shared arrays as this library's own type."""
        return buffers

    def context(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def task(self, case: Case, buffers: Buffers) -> Task | None:
        factory = self.factory(case.op, case.direction)
        if factory is None or case.dtype not in self.dtypes:
            return None
        return Task(factory(self.views(buffers, case)), self.context)

    def array(self, result: Any, case: Case) -> Array:
        """What a run returned, as a NumPy array; of (dx, dparam) the first."""
        return np.asarray(result[0] if isinstance(result, tuple) else result)
