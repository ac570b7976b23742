"""Problems of the functions that are not elementwise: what to call, with which arguments, in which shapes.

A family module lists `Spec`s. All else is found by calling the function once on copies of its arguments: the results'
shapes and dtypes, the array for `out=`, which arguments are written, and so the least traffic.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from fastnn.table import FUNCTIONS, Function

from .base import BOTH, SEED, Array, Buffers, Judge, Problem, aligned, dtype_of

fnn: Any = importlib.import_module("fastnn")  # its functions are called by name
Arguments = dict[str, Any]
EXTRA = "extra"  # among the arguments made: a dictionary for the rivals, which fastnn's function is not given
Build = Callable[["Maker"], Arguments]


class Maker:
    """Makes the arrays of one problem, always the same ones, of the dtype under test."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype_of(dtype)
        # what stands beside 16-bit arrays: gamma, statistics
        self.compute = np.dtype(np.float64 if dtype == "float64" else np.float32)
        self.rng = np.random.default_rng(SEED)

    def cast(self, values: Any, dtype: np.dtype[Any] | None = None) -> Array:
        made = aligned(np.shape(values), self.dtype if dtype is None else dtype)
        made[...] = values
        return made

    def normal(self, *shape: int, mean: float = 0.0, std: float = 1.0) -> Array:
        return self.cast(mean + std * self.rng.standard_normal(shape, np.float32))

    def parameter(self, *shape: int, mean: float = 0.0, std: float = 1.0) -> Array:
        return self.cast(mean + std * self.rng.standard_normal(shape, np.float32), self.compute)

    def positive(self, *shape: int) -> Array:
        """Variances and the like: between 0.5 and 1.5."""
        return self.cast(0.5 + self.rng.random(shape, np.float32), self.compute)

    def labels(self, count: int, classes: int) -> Array:
        return self.rng.integers(0, classes, count)


@dataclass(frozen=True, kw_only=True, eq=False)
class Spec:
    """A public function and the problems it is measured on."""

    function: str  # the row's name, or a composite such as "batch_norm_train+backward"
    family: str
    shapes: Mapping[str, Build]  # label -> arguments by keyword, without `out`; the first is the main one
    judged: Build | None = None  # small arguments, for the error; None: not judged (a composite)
    mandatory: int = 0  # how many of the shapes, from the first on, --quick measures: those with a target
    flops: Callable[[Arguments], int] | None = None  # where arithmetic is the limit
    call: Callable[[Any, Arguments], Any] | None = None  # (fastnn, arguments): how a composite is called
    # (arguments in float64, results) -> true results, for a contender that draws random numbers of its own
    given_choices: Callable[[Arguments, Sequence[Array | None]], Sequence[Any]] | None = None
    random: bool = False  # others draw other numbers
    outputs: tuple[str, ...] = ()  # arguments of a composite that are only written

    @property
    def row(self) -> Function | None:
        return FUNCTIONS.get(self.function)

    @property
    def direction(self) -> str:
        if "+" in self.function:
            return BOTH
        return "backward" if self.row is not None and self.row.gradient_of else "forward"

    def problems(self, dtype: str) -> list[FunctionProblem]:
        return [FunctionProblem(self, label, dtype) for label in self.shapes]


def over(build: Callable[..., Build], *shapes: tuple[int, ...], text: str = "{}") -> dict[str, Build]:
    """`build(*shape)` for every shape, labelled with the shape."""

    def label(shape: tuple[int, ...]) -> str:
        return f"{shape[0]:,}" if len(shape) == 1 else "x".join(map(str, shape))

    return {text.format(label(shape)): build(*shape) for shape in shapes}


def invoke(spec: Spec, arguments: Arguments, **options: Any) -> Any:
    """Call fastnn's function once."""
    return bind(spec, arguments, **options)()


def bind(spec: Spec, arguments: Arguments, **options: Any) -> Callable[[], Any]:
    if spec.call is not None:
        return partial(spec.call, fnn, arguments, **options)
    return partial(getattr(fnn, spec.function), **arguments, **options)


def arrays(value: Any) -> Iterator[Array]:
    """Every array in arguments or results."""
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from arrays(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from arrays(item)


@dataclass(frozen=True)
class Trial:
    """What one call showed."""

    results: Any
    arguments: Arguments  # after the call
    written: int  # bytes of arguments that the call changed


def attempt(spec: Spec, arguments: Arguments) -> Trial:
    mine = deepcopy(arguments)
    results = invoke(spec, mine)
    before, after = list(arrays(arguments)), list(arrays(mine))
    changed = [new for old, new in zip(before, after, strict=True) if old.tobytes() != new.tobytes()]
    return Trial(results, mine, sum(array.nbytes for array in changed))


@dataclass(frozen=True)
class FunctionProblem(Problem):
    """One function on arguments of one shape."""

    spec: Spec
    label_: str
    dtype: str

    @property
    def family(self) -> str:
        return self.spec.family

    @property
    def op(self) -> str:
        return self.spec.function

    @property
    def direction(self) -> str:
        return self.spec.direction

    @property
    def function(self) -> str:
        return self.spec.function

    @property
    def label(self) -> str:
        return self.label_

    @property
    def main(self) -> bool:
        return self.label_ in list(self.spec.shapes)[: self.spec.mandatory]

    @property
    def arguments(self) -> Arguments:
        return _current(self).arguments

    @property
    def extra(self) -> Arguments:
        return _current(self).extra

    @property
    def trial(self) -> Trial:
        return _current(self).trial

    @property
    def size(self) -> int:
        first = next(arrays(self.arguments), None)
        return first.size if first is not None else sum(array.size for array in arrays(self.trial.results))

    @property
    def bytes_moved(self) -> int:
        trial = self.trial
        only_written = sum(array.nbytes for name in self.spec.outputs for array in arrays(self.arguments[name]))
        read = sum(array.nbytes for array in arrays(self.arguments)) - only_written
        inputs = list(arrays(trial.arguments))
        fresh = [
            array for array in arrays(trial.results) if not any(np.may_share_memory(array, other) for other in inputs)
        ]
        return read + trial.written + sum(array.nbytes for array in fresh)

    @property
    def flops(self) -> int | None:
        return None if self.spec.flops is None else self.spec.flops(self.arguments)

    def buffers(self) -> Buffers:
        options: Arguments = {}
        row = self.spec.row
        if row is not None and any(argument.name == "out" for argument in row.arguments):
            results = self.trial.results
            result = results[row.out_result] if isinstance(results, tuple) else results
            options["out"] = aligned(result.shape, result.dtype)
            options["out"].fill(0)
        return Buffers(extra=self.extra, **self.arguments, **options)

    def judge(self) -> Judge | None:
        from ..accuracy.functions import FunctionJudge

        return None if self.spec.judged is None or self.spec.row is None else FunctionJudge(self.spec, self.dtype)


@dataclass(frozen=True)
class Made:
    """What belongs to one problem and takes memory."""

    arguments: Arguments
    extra: Arguments
    trial: Trial


_made: dict[FunctionProblem, Made] = {}


def _current(problem: FunctionProblem) -> Made:
    """What belongs to this problem; that of the last one is let go before new arrays are made."""
    if problem not in _made:
        _made.clear()
        arguments = problem.spec.shapes[problem.label_](Maker(problem.dtype))
        extra = arguments.pop(EXTRA, {})
        _made[problem] = Made(arguments, extra, attempt(problem.spec, arguments))
    return _made[problem]
