"""What the pytest-benchmark suite consists of: one benchmark for every op, direction, size and contender."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fastnn.table import OPS

from .cases import PASSES, Case, make_cases
from .rivals import RIVALS, fastnn_
from .rivals import load as load_rivals
from .rivals.base import Rival

OURS = f"{fastnn_.PREFIX}native"


def contenders(threads: int = 1, rivals: Iterable[str] | None = None) -> list[Rival]:
    """fastnn's native backend, then every rival that is installed."""
    ours, missing = fastnn_.load(["native"], threads)
    if not ours:
        raise RuntimeError(f"fastnn's native backend cannot run: {missing}")
    names = tuple(RIVALS) if rivals is None else tuple(rivals)
    return [*ours, *(load_rivals(names, threads)[0] if names else [])]


def benchmarks(
    who: Sequence[Rival], sizes: Iterable[int], dtypes: Iterable[str] = ("float32",)
) -> list[tuple[Case, Rival]]:
    return [(case, rival) for case in make_cases(dtypes=dtypes, sizes=sizes) for rival in who if rival.supports(case)]


def uncovered(suite: Iterable[tuple[Case, Rival]]) -> list[str]:
    """Ops of the table, with their direction, for which fastnn has no benchmark in the suite."""
    there = {(case.op, case.direction) for case, rival in suite if rival.label == OURS}
    return [f"{op} {direction}" for op in OPS for direction in PASSES if (op, direction) not in there]


def strangers(who: Iterable[Rival]) -> list[str]:
    """Names in a rival's mappings that are no op of the table: misspelt, or an op that was renamed."""
    return [
        f"{rival.label}: {name}"
        for rival in who
        for mapping in (rival.forward, rival.backward)
        for name in mapping
        if name not in OPS
    ]
