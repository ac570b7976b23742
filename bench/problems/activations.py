"""The elementwise activations: every op of their table, forward and backward, on arrays all contenders share."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn.oracle import numpy64
from fastnn.table import OPS, Op

from .base import PASSES, SEED, Array, Buffers, Judge, Problem, aligned, dtype_of

FAMILY = "activations"
SIZES = (1_000, 65_536, 1_000_000, 16_777_216)
MAIN_SIZE = 1_000_000
JUDGED = 65_536  # how many of the benchmark's own numbers are judged
CHUNK = 1 << 20


@dataclass(frozen=True)
class Case(Problem):
    """An op, a direction, a dtype, a number of elements."""

    name: str
    way: str  # "forward" or "backward"
    dtype: str
    elements: int

    @property
    def row(self) -> Op:
        return OPS[self.name]

    @property
    def family(self) -> str:
        return FAMILY

    @property
    def op(self) -> str:
        return self.name

    @property
    def direction(self) -> str:
        return self.way

    @property
    def function(self) -> str:
        return self.name if self.way == "forward" else f"{self.name}_backward"

    @property
    def size(self) -> int:
        return self.elements

    @property
    def label(self) -> str:
        return f"{self.elements:,}"

    @property
    def main(self) -> bool:
        return self.elements == MAIN_SIZE

    @property
    def bytes_moved(self) -> int:
        """Forward reads x and writes y, backward reads dy and `saved` and writes dx."""
        return (2 if self.way == "forward" else 3) * self.bytes_copied

    @property
    def bytes_copied(self) -> int:
        return self.elements * dtype_of(self.dtype).itemsize

    @property
    def params(self) -> tuple[float, ...]:
        """One valid value per parameter, rounded to float32 so that every library computes with the same number."""
        if self.dtype == "float64":
            return self.row.parameters_default
        return tuple(float(np.float32(value)) for value in self.row.parameters_default)

    def buffers(self) -> Buffers:
        return pool(self.dtype, self.elements).buffers(self)

    def judge(self) -> Judge:
        from ..accuracy.activations import OpJudge

        inputs = Pool(self.dtype, JUDGED)
        return OpJudge(self, inputs.x, inputs.dy)


def expected_forward(row: Op, x: Array, params: tuple[float, ...], m: Any = numpy64) -> Any:
    return row.forward(m, x, *params)


def expected_backward(row: Op, dy: Array, saved: Array, params: tuple[float, ...], m: Any = numpy64) -> Any:
    with np.errstate(all="ignore"):
        return m.array(dy) * row.gradient(m, saved, *params)


class Pool:
    """Shared input and output arrays of one dtype and size; only `saved` differs between ops."""

    def __init__(self, dtype: str, size: int) -> None:
        self.dtype, self.size = dtype, size
        kind = dtype_of(dtype)
        self.x, self.dy, self.out, self.scratch, self.output = (aligned(size, kind) for _ in range(5))
        rng = np.random.default_rng(SEED)
        # normal with mean 0 and variance 1: what batch normalisation hands to an activation
        for array in (self.x, self.dy):
            for start in range(0, size, CHUNK):
                part = array[start : start + CHUNK]
                part[:] = rng.standard_normal(part.size, np.float32)
        for array in (self.out, self.scratch, self.output):
            array.fill(0)

    def buffers(self, case: Case) -> Buffers:
        saved = self.x
        if case.direction == "backward" and case.row.saves == "output":
            saved = self.output
            for start in range(0, self.size, CHUNK):
                part = slice(start, start + CHUNK)
                saved[part] = expected_forward(case.row, self.x[part].astype(np.float64), case.params)
        return Buffers(x=self.x, dy=self.dy, saved=saved, out=self.out, scratch=self.scratch, params=case.params)


_pools: dict[tuple[str, int], Pool] = {}


def pool(dtype: str, size: int) -> Pool:
    """The arrays of this dtype and size; those of the last one are let go before new ones are asked for."""
    if (dtype, size) not in _pools:
        _pools.clear()
        _pools[dtype, size] = Pool(dtype, size)
    return _pools[dtype, size]


def problems(
    ops: Iterable[str] = OPS, directions: Iterable[str] = PASSES, dtype: str = "float32", sizes: Iterable[int] = SIZES
) -> list[Problem]:
    """Every cell asked for, those with the same arrays next to each other."""
    names, ways = tuple(ops), tuple(directions)
    return [Case(op, way, dtype, size) for size in sizes for op in names for way in ways]


def parse_size(text: str) -> int:
    """'1000', '65_536', '64k', '1M' or '2^24'."""
    plain = text.strip().replace("_", "").replace(",", "")
    try:
        if "^" in plain:
            base, exponent = plain.split("^")
            value = math.pow(int(base), int(exponent))
        else:
            factor = {"k": 1e3, "m": 1e6}.get(plain[-1:].lower(), 1)
            value = float(plain if factor == 1 else plain[:-1]) * factor
        if value < 1 or value != int(value):
            raise ValueError
    except (ValueError, OverflowError):
        raise ValueError(f"not a number of elements: {text!r} (examples: 1000, 65536, 1M, 2^24)") from None
    return int(value)
