"""What a contender is: a library with a mapping from public functions of fastnn to its best way of computing them."""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..machine import version
from ..problems import FAMILIES
from ..problems.base import Array, Buffers, Problem
from ..timing import Run, Task


@dataclass(frozen=True, slots=True)
class Call:
    """A run whose results lie elsewhere, or otherwise, than in what it returns."""

    run: Run
    results: Callable[[Any], Any]  # from what `run` returned to fastnn's results in their order; not timed


Factory = Callable[[Buffers], Run | Call | None]  # None: the library cannot do it with these options


class Rival:
    """A library under test. A function that `factories` does not name is one the library does not offer."""

    name: ClassVar[str]
    package: ClassVar[str]  # distribution name, for the version
    dtypes: ClassVar[frozenset[str]] = frozenset({"float32", "float64"})
    traced: bool = False  # does tracemalloc see the arrays it allocates?
    factories: Mapping[str, Factory] = {}

    def __init__(self, threads: int) -> None:
        self.threads = threads

    @property
    def label(self) -> str:
        return self.name

    def version(self) -> str:
        return version(self.package) or "unknown"

    def supports(self, problem: Problem) -> bool:
        return problem.dtype in self.dtypes and problem.function in self.factories

    def view(self, array: Array) -> Any:
        """A shared array as this library's own type."""
        return array

    def context(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def task(self, problem: Problem, buffers: Buffers) -> Task | None:
        if not self.supports(problem):
            return None
        with self.context():
            made = self.factories[problem.function](buffers.map(self.view))
        if made is None:
            return None
        return Task(made.run, self.context, made.results) if isinstance(made, Call) else Task(made, self.context)

    def array(self, result: Any) -> Array:
        return np.asarray(result)

    def arrays(self, task: Task, result: Any) -> list[Array | None]:
        """The results in fastnn's order; None for what this library does not return."""
        return [None if item is None else self.array(item) for item in flat(task.results(result))]


def flat(results: Any) -> Iterator[Any]:
    if isinstance(results, (tuple, list)):
        for item in results:
            yield from flat(item)
    else:
        yield results


def gather(package: str) -> dict[str, Factory]:
    """The factories of a rival's modules, one module a family that the library has something of."""
    found: dict[str, Factory] = {}
    for family in FAMILIES:
        if importlib.util.find_spec(f"{package}.{family}") is not None:
            found |= importlib.import_module(f"{package}.{family}").FACTORIES
    return found


def both(forward: Mapping[str, Factory], backward: Mapping[str, Factory]) -> dict[str, Factory]:
    """Two mappings by op, as one by public function."""
    return dict(forward) | {f"{op}_backward": factory for op, factory in backward.items()}


_finished: list[Callable[[], Any]] = []  # what waits until a run is really over: nothing where none is queued


@contextmanager
def waiting(finish: Callable[[], Any]) -> Iterator[None]:
    """Within this block runs are over when `finish` returns: those on a device."""
    _finished.append(finish)
    try:
        yield
    finally:
        _finished.pop()


def quickest(*runs: Run) -> Run:
    """Of several ways of computing the same the one that takes least time here, now."""
    if len(runs) == 1:
        return runs[0]
    best = {index: float("inf") for index in range(len(runs))}
    for turn in range(4):  # the first is a warm-up
        for index, run in enumerate(runs):
            start = time.perf_counter()
            run()
            if _finished:
                _finished[-1]()
            if turn:
                best[index] = min(best[index], time.perf_counter() - start)
    return runs[min(best, key=best.__getitem__)]
