"""What the pytest-benchmark suites consist of: one benchmark for every problem and contender."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fastnn.table import OPS

from .problems import specs, uncovered
from .problems.base import Problem
from .rivals import RIVALS, fastnn_
from .rivals import load as load_rivals
from .rivals.base import Rival

OURS = f"{fastnn_.PREFIX}native"


def contenders(threads: int = 1, rivals: Iterable[str] | None = None) -> list[Rival]:
    """fastnn's native backend, then every rival that is installed."""
    ours, missing = fastnn_.load(["native"], threads)
    if not ours:
        raise RuntimeError(f"fastnn's native backend cannot run: {missing}")
    wanted = tuple(RIVALS) if rivals is None else tuple(rivals)
    return [*ours, *(load_rivals(wanted, threads)[0] if wanted else [])]


def benchmarks(who: Sequence[Rival], problems: Iterable[Problem]) -> list[tuple[Problem, Rival]]:
    return [(problem, rival) for problem in problems for rival in who if rival.supports(problem)]


def strangers(who: Iterable[Rival]) -> list[str]:
    """Names in a rival's mappings that are no function of the table: misspelt, or renamed there."""
    known = {*OPS, *(f"{op}_backward" for op in OPS), *(spec.function for spec in specs())}
    return [f"{rival.label}: {name}" for rival in who for name in rival.factories if name not in known]


def missing(pairs: Iterable[tuple[Problem, Rival]]) -> list[str]:
    """Functions of the table for which fastnn has no benchmark in the suite."""
    return uncovered(problem for problem, rival in pairs if rival.label == OURS)
