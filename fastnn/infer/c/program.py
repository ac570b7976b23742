"""A C program in the making: operations on named arrays, constants, and where arrays lie in the workspace."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastnn.infer.arena import placed
from fastnn.infer.c.library import Piece, helper, literal
from fastnn.infer.graph import Array, Shape
from fastnn.infer.memory import LINE

TYPES = {"float32": "float", "float64": "double", "int8": "int8_t", "uint8": "uint8_t", "int32": "int32_t"}
TYPES |= {"uint32": "uint32_t", "int64": "size_t"}


@dataclass(frozen=True, slots=True)
class Value:
    """An array while the program runs, of one sample.

    last: channels come last, not first. blocked: the plan has it in blocks of channels; in C it has its channels last.
    """

    name: str
    shape: Shape
    dtype: str = "float32"
    last: bool = False
    blocked: bool = False

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(slots=True)
class _Operation:
    title: str
    lines: list[str]
    names: set[str]  # of what it reads and writes


@dataclass(slots=True)
class Program:
    """Operations in order, and what they need."""

    dtype: str
    pieces: list[Piece] = field(default_factory=list)
    constants: list[str] = field(default_factory=list)
    operations: list[_Operation] = field(default_factory=list)
    arrays: dict[str, Value] = field(default_factory=dict)  # in the workspace, by name
    constant_bytes: int = 0
    count: int = 0

    @property
    def real(self) -> str:
        return TYPES[self.dtype]

    def use(self, piece: Piece | str, real: str | None = None) -> str:
        """The name of a piece, which comes into the file."""
        found = helper(piece, real or self.real) if isinstance(piece, str) else piece
        self.pieces.append(found)
        return found.name

    def new(self, shape: Shape, dtype: str | None = None, last: bool = False) -> Value:
        """An array in the workspace."""
        self.count += 1
        value = Value(f"v{self.count}", shape, dtype or self.dtype, last)
        self.arrays[value.name] = value
        return value

    def constant(self, role: str, array: Array) -> str:
        """Numbers under a name."""
        self.count += 1
        name, kind = f"{role}{self.count}", TYPES[array.dtype.name]
        flat = array.reshape(-1)
        if not flat.any() and not np.signbit(flat).any():
            texts = ["0"]
        elif flat.dtype.kind == "f":
            texts = [literal(value, kind) for value in flat.tolist()]
        else:
            texts = [str(value) for value in flat.tolist()]
        each = 8 if flat.dtype.kind == "f" else 24
        rows = ",\n".join("  " + ", ".join(texts[at : at + each]) for at in range(0, len(texts), each))
        self.constants.append(f"static const {kind} {name}[{flat.size}] = {{\n{rows}\n}};\n")
        self.constant_bytes += flat.nbytes
        return name

    def add(self, title: str, lines: list[str], *values: Value) -> None:
        """An operation on these arrays; an empty title goes on with the one before."""
        self.operations.append(_Operation(title, lines, {value.name for value in values}))

    def planned(self) -> tuple[dict[str, int], int]:
        """By name the byte in the workspace at which an array begins, and the bytes of all."""
        blocks: dict[str, tuple[int, int, int]] = {}
        for place, operation in enumerate(self.operations):
            for name in operation.names & self.arrays.keys():
                value = self.arrays[name]
                size = -(-value.size * np.dtype(value.dtype).itemsize // LINE) * LINE
                blocks[name] = size, blocks[name][1] if name in blocks else place, place
        begins = placed(blocks)
        return begins, max((begins[name] + blocks[name][0] for name in blocks), default=0)


def as_loop(count: int, statement: str) -> list[str]:
    """A statement for every i below `count`."""
    return (
        [f"for (size_t i = 0; i < {count}; ++i) {statement}"]
        if count > 1
        else [f"{{ const size_t i = 0; {statement} }}"]
    )


def record(numbers: Iterable[Any]) -> str:
    """Numbers as an initialiser."""
    return "{" + ", ".join(str(int(number)) for number in numbers) + "}"
