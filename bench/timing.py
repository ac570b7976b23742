"""Interleaved timing: every round gives each contender one turn, so that drift of the machine hits all alike."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import repeat
from typing import Any, TypeVar

import numpy as np

Run = Callable[[], Any]
Key = TypeVar("Key", bound=Hashable)

SAMPLE_SECONDS = 300e-6  # a sample repeats the call until it lasts this long, so the clock's own cost vanishes
CHEAP_SECONDS, CHEAP_SAMPLES = 5e-3, 9  # samples this short are taken even where the budget is used up
MANY_SECONDS = 20e-3  # a call this long is measured well by itself
SETTLE_SECONDS = 2e-3  # with several threads: time for another library's idle workers to stop spinning


def as_returned(result: Any) -> Any:
    return result


@dataclass(frozen=True, slots=True)
class Task:
    """One contender, ready to run; `context` is entered, untimed, around every sample."""

    run: Run
    context: Callable[[], AbstractContextManager[Any]] = nullcontext
    results: Callable[[Any], Any] = as_returned  # fastnn's results, in their order, from what `run` returned


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds per call over all samples of one contender."""

    median: float
    q1: float
    q3: float
    best: float
    samples: int
    inner: int
    cores: float  # CPU seconds of the whole process per second of wall clock: tells whether the thread limit was kept

    def as_dict(self) -> dict[str, float | int]:
        return {
            "median_s": self.median,
            "q1_s": self.q1,
            "q3_s": self.q3,
            "best_s": self.best,
            "samples": self.samples,
            "inner": self.inner,
            "cores": round(self.cores, 3),
        }


def _loop(run: Run, times: int) -> tuple[float, float]:
    cpu = time.process_time()
    start = time.perf_counter()
    for _ in repeat(None, times):
        run()
    wall = time.perf_counter() - start
    return wall, time.process_time() - cpu


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _calibrate(task: Task) -> tuple[float, int]:
    """Seconds per call, and calls per sample; the first call (compilation, page faults) is discarded."""
    with task.context():
        task.run()
        inner = 1
        while True:
            wall, _ = _loop(task.run, inner)
            if wall >= SAMPLE_SECONDS / 3:
                break
            inner = max(2 * inner, min(100 * inner, math.ceil(inner * SAMPLE_SECONDS / max(wall, 1e-9) / 2)))
        if wall < MANY_SECONDS:  # another look, lest one interruption be taken for a slow contender
            wall = min(wall, _loop(task.run, inner)[0])
    call = wall / inner
    return call, max(1, math.ceil(SAMPLE_SECONDS / call))


def measure(
    tasks: Mapping[Key, Task], *, budget: float, min_samples: int = 5, max_samples: int = 60, settle: bool = False
) -> dict[Key, Timing]:
    """Time every task within about `budget` seconds altogether.

    The budget is shared equally. A slow contender gets fewer samples than a fast one, at least `min_samples`, and they
    are spread evenly over the whole run.
    """
    if not tasks:
        return {}
    with no_garbage_collection():
        calibrated = {name: _calibrate(task) for name, task in tasks.items()}
        share = budget / len(tasks)
        # an untimed call before each sample brings caches and branch predictors to the steady state; not long ones
        warm = {name: call < MANY_SECONDS for name, (call, _) in calibrated.items()}
        cost = {name: call * (inner + warm[name]) for name, (call, inner) in calibrated.items()}
        least = {name: max(min_samples, CHEAP_SAMPLES) if cost[name] < CHEAP_SECONDS else min_samples for name in tasks}
        quota = {name: max(least[name], min(max_samples, int(share / cost[name]))) for name in tasks}
        rounds = max(quota.values())
        names = list(tasks)
        wall: dict[Key, list[float]] = {name: [] for name in names}
        busy = dict.fromkeys(names, 0.0)
        for turn in range(rounds):
            shift = turn % len(names)
            order = names[shift:] + names[:shift]
            for name in reversed(order) if turn % 2 else order:
                if (turn + 1) * quota[name] // rounds == turn * quota[name] // rounds:
                    continue
                task, inner = tasks[name], calibrated[name][1]
                if settle:
                    time.sleep(SETTLE_SECONDS)
                with task.context():
                    if warm[name]:
                        task.run()
                    seconds, cpu = _loop(task.run, inner)
                wall[name].append(seconds / inner)
                busy[name] += cpu / inner
    return {name: _summarise(wall[name], busy[name], calibrated[name][1]) for name in names}


def _summarise(wall: list[float], cpu: float, inner: int) -> Timing:
    q1, median, q3 = (float(q) for q in np.quantile(wall, (0.25, 0.5, 0.75)))
    return Timing(median, q1, q3, min(wall), len(wall), inner, cpu / sum(wall))
