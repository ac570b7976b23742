"""What is measured: every op of the table, forward and backward, and the arrays all contenders share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.oracle import numpy64
from fastnn.table import OPS, Op

Array = npt.NDArray[Any]

PASSES = ("forward", "backward")
SIZES = (1_000, 65_536, 1_000_000, 16_777_216)
QUICK_SIZES = (1_000_000,)
DTYPES = ("float32", "float64", "float16", "bfloat16")
ALIGNMENT = 64  # one cache line, the widest vector register
SEED = 20240229
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Case:
    """One cell of the benchmark: an op, a direction, a dtype, a number of elements."""

    op: str
    direction: str  # "forward" or "backward"
    dtype: str
    size: int

    @property
    def row(self) -> Op:
        return OPS[self.op]

    @property
    def bytes_moved(self) -> int:
        """Least traffic per call: forward reads x and writes y, backward reads dy and `saved` and writes dx."""
        return (2 if self.direction == "forward" else 3) * self.size * dtype_of(self.dtype).itemsize

    @property
    def params(self) -> tuple[float, ...]:
        """One valid value per parameter, rounded to float32 so that every library computes with the same number."""
        if self.dtype == "float64":
            return self.row.parameters_default
        return tuple(float(np.float32(value)) for value in self.row.parameters_default)

    def __str__(self) -> str:
        return f"{self.op} {self.direction}, {self.size:,} x {self.dtype}"


@dataclass(frozen=True, slots=True)
class Buffers:
    """The arrays of one case; a rival holds them as its own array type, over the same memory where it can."""

    x: Any
    dy: Any
    saved: Any
    out: Any
    scratch: Any
    params: tuple[float, ...]

    def map(self, convert: Callable[[Array], Any]) -> Buffers:
        x, dy, saved, out, scratch = map(convert, (self.x, self.dy, self.saved, self.out, self.scratch))
        return Buffers(x, dy, saved, out, scratch, self.params)


def dtype_of(name: str) -> np.dtype[Any]:
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)  # type: ignore[no-any-return]
    return np.dtype(name)


def aligned(size: int, dtype: np.dtype[Any]) -> Array:
    """An uninitialised array that starts on a cache line; reused by everybody, so page faults are nobody's cost."""
    block = np.empty(size * dtype.itemsize + ALIGNMENT, np.uint8)
    start = -block.ctypes.data % ALIGNMENT
    return block[start : start + size * dtype.itemsize].view(dtype)


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
        return Buffers(self.x, self.dy, saved, self.out, self.scratch, case.params)


def check_choice(kind: str, wanted: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """`wanted` in order without repetition; ValueError naming what is unknown and what was probably meant."""
    known = tuple(known)
    chosen = tuple(dict.fromkeys(wanted))
    for name in chosen:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"unknown {kind} {name!r}.{hint} Known: {', '.join(known)}.")
    if not chosen:
        raise ValueError(f"no {kind} given. Known: {', '.join(known)}.")
    return chosen


def make_cases(
    ops: Iterable[str] | None = None,
    directions: Iterable[str] = PASSES,
    dtypes: Iterable[str] = ("float32",),
    sizes: Iterable[int] = SIZES,
) -> list[Case]:
    """Every cell asked for, those with the same arrays next to each other."""
    names = tuple(OPS) if ops is None else check_choice("op", ops, OPS)
    ways = check_choice("pass", directions, PASSES)
    kinds = check_choice("dtype", dtypes, DTYPES)
    counts = tuple(dict.fromkeys(sizes))
    if not counts or any(size < 1 for size in counts):
        raise ValueError(f"sizes must be positive numbers of elements, got {counts}")
    return [Case(op, way, kind, size) for kind in kinds for size in counts for op in names for way in ways]


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
