"""The time of every single call: contenders in turn, the order rotated, so that drift of the machine hits all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..timing import no_garbage_collection

TURNS = 10
MOST = 20_000  # calls of one contender
WARM = 20e-3  # seconds of calls before a turn's first that counts, at most
SETTLE = 60e-3  # with several threads: until the idle workers of the one before have gone to sleep
Run = Callable[[], Any]


def measure(runs: Mapping[str, Run], budget: float, threads: int, least: int = 5) -> dict[str, dict[str, float | int]]:
    """p50, p99 and best of the seconds a call takes, within about `budget` seconds; `least` calls of each at least."""
    with no_garbage_collection():
        cost = {name: _estimate(run) for name, run in runs.items()}
        share = budget / max(1, len(runs))
        calls = {name: int(min(MOST, max(least, share / cost[name]))) for name in runs}
        times: dict[str, list[float]] = {name: [] for name in runs}
        names = list(runs)
        for turn in range(TURNS):
            shift = turn % len(names)
            order = names[shift:] + names[:shift]
            for name in reversed(order) if turn % 2 else order:
                count = calls[name] * (turn + 1) // TURNS - calls[name] * turn // TURNS
                if count:
                    if threads > 1:
                        time.sleep(SETTLE)
                    _turn(runs[name], count, int(min(count, WARM / cost[name])) or 1, times[name])
    return {name: _summary(np.array(times[name])) for name in names}


def _estimate(run: Run) -> float:
    """Seconds of a call, once what is done only once is done."""
    clock = time.perf_counter
    seen: list[float] = []
    began = clock()
    while len(seen) < 3 or (clock() - began < WARM and len(seen) < 50):
        start = clock()
        run()
        seen.append(clock() - start)
    return float(np.median(seen[1:]))


def _turn(run: Run, count: int, warm: int, times: list[float]) -> None:
    clock = time.perf_counter
    for _ in range(warm):
        run()
    for _ in range(count):
        start = clock()
        run()
        times.append(clock() - start)


def _summary(times: np.ndarray[Any, Any]) -> dict[str, float | int]:
    p50, p99 = (float(np.quantile(times, part, method="higher")) for part in (0.5, 0.99))
    return {"p50_s": p50, "p99_s": p99, "best_s": float(times.min()), "samples": len(times)}
