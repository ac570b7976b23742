"""What is measured on a device: the elementwise ops on large arrays, everything else in its main shape.

Arrays are CuPy's, made on the device. A problem is asked for as many sets of them as it takes to go beyond its cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn.table import OPS

from .. import problems as host
from ..problems import activations
from ..problems.base import PASSES, SEED, Buffers, check_choice, dtype_of
from ..problems.functions import FunctionProblem

SIZE = 2**28  # elements: 1 GiB of float32, far beyond any cache
BLOCK = 2**20  # random numbers, which are repeated
DROPOUT = "dropout"
P = 0.5
ELEMENTWISE = (*OPS, DROPOUT)
CACHES = 4  # so many times the cache is what the sets of arrays of a problem take


@dataclass(frozen=True)
class Elementwise:
    """An activation or dropout, forward or backward, on arrays of `size` elements."""

    op: str
    direction: str
    dtype: str
    size: int

    family = "elementwise"

    @property
    def function(self) -> str:
        """The public function."""
        return self.op if self.direction == "forward" else f"{self.op}_backward"

    @property
    def label(self) -> str:
        """The number of elements."""
        return f"{self.size:,}"

    @property
    def arrays(self) -> int:
        """How many arrays go through memory: of an activation's backward three, of dropout's, which draws anew, 2."""
        return 3 if self.direction == "backward" and self.op != DROPOUT else 2

    @property
    def bytes_moved(self) -> int:
        """Every input read once, every result written once."""
        return self.arrays * self.size * dtype_of(self.dtype).itemsize

    @property
    def params(self) -> tuple[float, ...]:
        """One valid value for each parameter."""
        return () if self.op == DROPOUT else activations.Case(self.op, self.direction, self.dtype, self.size).params

    def buffers(self, cupy: Any, fnn: Any) -> Buffers:
        """Arrays of the standard normal distribution; `saved` is what the op's own forward pass leaves."""
        block = np.random.default_rng(SEED).standard_normal(min(BLOCK, self.size), np.float32)
        times = -(-self.size // BLOCK)
        x, dy = (cupy.tile(cupy.asarray(each.astype(self.dtype)), times)[: self.size] for each in (block, block[::-1]))
        out, saved = cupy.empty(self.size, self.dtype), x
        if self.op in OPS and self.direction == "backward" and OPS[self.op].saves == "output":
            saved = getattr(fnn, self.op)(x, *self.params)
        return Buffers(x=x, dy=dy, saved=saved, out=out, params=self.params)


@dataclass(frozen=True)
class Shaped:
    """Another function, in the main shape of its problems for the CPU."""

    problem: FunctionProblem

    family = "functions"

    @property
    def op(self) -> str:
        """What tables call it."""
        return self.problem.op

    @property
    def direction(self) -> str:
        """Forward, backward or both."""
        return self.problem.direction

    @property
    def dtype(self) -> str:
        """Of its arrays."""
        return self.problem.dtype

    @property
    def function(self) -> str:
        """The public function."""
        return self.problem.function

    @property
    def label(self) -> str:
        """The shape."""
        return self.problem.label

    @property
    def size(self) -> int:
        """Elements of the principal array."""
        return self.problem.size

    @property
    def bytes_moved(self) -> int:
        """Every input read once, every result written once."""
        return self.problem.bytes_moved

    def buffers(self, cupy: Any, fnn: Any) -> Buffers:
        """The CPU's arguments, copied to the device."""
        return self.problem.buffers().map(cupy.asarray)


DeviceProblem = Elementwise | Shaped


def make(
    ops: Iterable[str] | None = None,
    directions: Iterable[str] = PASSES,
    dtypes: Iterable[str] = ("float32",),
    size: int = SIZE,
    families: Iterable[str] | None = None,
) -> list[DeviceProblem]:
    """Every cell asked for; ValueError for a name that is none."""
    wanted = None if ops is None else set(check_choice("op", ops, (*host.names(), DROPOUT)))
    ways = check_choice("pass", directions, PASSES)
    kinds = check_choice("family", families, host.FAMILIES) if families is not None else host.FAMILIES
    found: list[DeviceProblem] = []
    for dtype in dtypes:
        found += [
            Elementwise(op, way, dtype, size)
            for op in ELEMENTWISE
            for way in ways
            if (wanted is None or op in wanted) and (activations.FAMILY if op in OPS else "dropout") in kinds
        ]
        found += list(_shaped(wanted, ways, dtype, kinds))
    return found


def _shaped(wanted: set[str] | None, ways: Iterable[str], dtype: str, kinds: Iterable[str]) -> Iterator[Shaped]:
    """The first shape of every function that is no elementwise one."""
    for spec in host.specs(kinds):
        named = {spec.function, spec.function.removesuffix("_backward")}
        if DROPOUT in named or not set(spec.direction.split("+")) <= set(ways):
            continue
        if wanted is None or named & wanted:
            yield Shaped(spec.problems(dtype)[0])


def sets(problem: DeviceProblem, cache: int) -> int:
    """How many sets of arrays go beyond the cache: one where a call's own do."""
    return 1 + math.ceil(CACHES * cache / problem.bytes_moved) if problem.bytes_moved < CACHES * cache else 1
