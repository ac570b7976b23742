"""Timing by CUDA events: what is queued between two of them, interleaved, each contender a turn a round."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from ..timing import Run

Key = TypeVar("Key", bound=Hashable)
Context = Callable[[], AbstractContextManager[Any]]

SAMPLE_SECONDS = 5e-4  # a sample repeats the call until it lasts this long: events resolve half a microsecond
MOST_CALLS = 4096  # in a sample


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds per call over all samples of one contender."""

    median_s: float
    q1_s: float
    q3_s: float
    best_s: float
    samples: int
    inner: int

    def as_dict(self) -> dict[str, float | int]:
        """For the result file."""
        return asdict(self)


class Clock:
    """Two events on the current stream."""

    def __init__(self, cuda: Any) -> None:
        self.cuda, self.start, self.end = cuda, cuda.Event(), cuda.Event()

    def seconds(self, runs: Sequence[Run], calls: int) -> float:
        """Seconds a call, of so many, which take their turns at the memory that each run has."""
        self.start.record()
        for k in range(calls):
            runs[k % len(runs)]()
        self.end.record()
        self.end.synchronize()
        return float(self.cuda.get_elapsed_time(self.start, self.end)) / 1e3 / calls


def measure(
    turns: Mapping[Key, Sequence[Run]],
    clock: Clock,
    contexts: Mapping[Key, Context],
    *,
    budget: float,
    min_samples: int = 7,
    max_samples: int = 50,
) -> dict[Key, Timing]:
    """Time every contender within about `budget` seconds altogether; each run of a contender has memory of its own.

    A contender's context, if it has one, is entered around each of its samples, untimed.
    """

    def sample(name: Key, calls: int) -> float:
        with contexts.get(name, nullcontext)():
            return clock.seconds(turns[name], calls)

    def calibrated(name: Key) -> int:
        """Calls a sample, a multiple of the runs; the first round, in which kernels are compiled, is discarded."""
        calls = len(turns[name])
        sample(name, calls)
        while calls < MOST_CALLS and sample(name, calls) * calls < SAMPLE_SECONDS:
            calls *= 2
        return calls

    names = list(turns)
    calls = {name: calibrated(name) for name in names}
    spent = sum(sample(name, calls[name]) * calls[name] for name in names)
    rounds = max(min_samples, min(max_samples, int(budget / max(spent, 1e-9))))
    found: dict[Key, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            found[name].append(sample(name, calls[name]))
    return {name: _summary(samples, calls[name]) for name, samples in found.items()}


def _summary(samples: list[float], calls: int) -> Timing:
    q1, median, q3 = (float(q) for q in np.quantile(samples, (0.25, 0.5, 0.75)))
    return Timing(median, q1, q3, min(samples), len(samples), calls)
