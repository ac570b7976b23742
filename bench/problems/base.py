"""What a problem is: a public function, the arguments it is called with, and how its results are judged.

Elementwise activations are one kind (`activations.py`), everything else another (`functions.py`); runner, suites and
reports know only what stands here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

PASSES = ("forward", "backward")
BOTH = "forward+backward"
DTYPES = ("float32", "float64", "float16", "bfloat16")
ALIGNMENT = 64  # one cache line, the widest vector register
SEED = 20240229


class Buffers:
    """Named arrays and options of one problem, as attributes.

    A rival holds the arrays as its own type, over the same memory where it can. `extra` is for rivals alone: what they
    need to know and fastnn's function is not given.
    """

    def __init__(self, *, extra: dict[str, Any] | None = None, **values: Any) -> None:
        self.values = values
        self.extra = extra or {}

    def __getattr__(self, name: str) -> Any:
        if name in self.values:
            return self.values[name]
        if name in self.extra:
            return self.extra[name]
        raise AttributeError(f"this problem has no {name!r}, only {', '.join([*self.values, *self.extra])}")

    def get(self, name: str, default: Any = None) -> Any:
        return self.values.get(name, self.extra.get(name, default))

    def map(self, convert: Callable[[Array], Any]) -> Buffers:
        """The same with every array converted, those in lists too; the rest is left alone."""

        def one(value: Any) -> Any:
            if isinstance(value, np.ndarray):
                return convert(value)
            if isinstance(value, list):
                return [one(item) for item in value]
            return value

        extra, values = ({name: one(value) for name, value in part.items()} for part in (self.extra, self.values))
        return Buffers(extra=extra, **values)

    def with_values(self, **values: Any) -> Buffers:
        """The same with some values added or replaced."""
        return Buffers(extra=self.extra, **self.values | values)


class Verdict(Protocol):
    """What a judge found, as data for the result file."""

    def as_dict(self) -> dict[str, Any]: ...


class Judge(ABC):
    """Inputs and true results of one function and dtype; judges the results of any contender."""

    problem: Problem

    @abstractmethod
    def buffers(self) -> Buffers:
        """Fresh arguments: a contender may have changed the last ones."""

    @abstractmethod
    def judge(self, got: Sequence[Array | None], exact: bool = True) -> Verdict | None:
        """The largest error of these results, None if it cannot be told; `exact`: they are fastnn's own."""

    @abstractmethod
    def agrees(self, got: Sequence[Array | None], exact: bool = True) -> bool:
        """Is it the same function at all, to about three digits on usual numbers?"""


class Problem(ABC):
    """One cell of the benchmark: a public function on arguments of one shape and one dtype."""

    dtype: str

    @property
    @abstractmethod
    def family(self) -> str:
        """The module of the op table that the function is from."""

    @property
    @abstractmethod
    def op(self) -> str:
        """What the tables call it."""

    @property
    @abstractmethod
    def direction(self) -> str:
        """ "forward", "backward" or both."""

    @property
    @abstractmethod
    def function(self) -> str:
        """The public function, such as "softmax_backward"; the key of a rival's factories."""

    @property
    @abstractmethod
    def label(self) -> str:
        """The shape, in words."""

    @property
    @abstractmethod
    def main(self) -> bool:
        """Is it what summaries show and --quick measures?"""

    @property
    @abstractmethod
    def size(self) -> int:
        """Elements of the principal array."""

    @property
    @abstractmethod
    def bytes_moved(self) -> int:
        """Least traffic of a call: every input read once, every result written once."""

    @property
    def bytes_copied(self) -> int:
        """Size of the array that np.copyto copies beside this problem: by default one of the same traffic."""
        return max(self.bytes_moved // 2, 1)

    @property
    def flops(self) -> int | None:
        """Multiplications and additions of a call, where it is them that take the time."""
        return None

    @abstractmethod
    def buffers(self) -> Buffers:
        """The arguments, shared by all contenders."""

    @abstractmethod
    def judge(self) -> Judge | None:
        """Who tells the error of a contender; None where there is nothing to judge."""

    @property
    def key(self) -> dict[str, Any]:
        """What names the cell in a result file."""
        return {
            "family": self.family,
            "op": self.op,
            "pass": self.direction,
            "dtype": self.dtype,
            "label": self.label,
            "size": self.size,
            "main": self.main,
        }

    def __str__(self) -> str:
        return f"{self.op} {self.direction}, {self.label} x {self.dtype}"


def dtype_of(name: str) -> np.dtype[Any]:
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)  # type: ignore[no-any-return]
    return np.dtype(name)


def aligned(shape: int | Sequence[int], dtype: np.dtype[Any]) -> Array:
    """An uninitialised array that starts on a cache line; reused by everybody, so page faults are nobody's cost."""
    wanted = (shape,) if isinstance(shape, int) else tuple(shape)
    count = int(np.prod(wanted, dtype=np.int64)) * dtype.itemsize
    block = np.empty(count + ALIGNMENT, np.uint8)
    start = -block.ctypes.data % ALIGNMENT
    return block[start : start + count].view(dtype).reshape(wanted)


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
