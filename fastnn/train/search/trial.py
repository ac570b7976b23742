"""One trial, where it runs: in this process, in another, on another machine. Nothing here needs Optuna."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

LARGE = 3.0  # a loss of so many times the first one has diverged
STARTUP = 5  # so many trials must have come to a step before the median of it prunes


class Pruned(Exception):
    """Raised by `Trial.report` to end a trial that is not worth continuing; let it pass through the objective."""


@dataclass(slots=True)
class Trial:
    """What an objective is called with: `trial["lr"]`, and `trial.report(loss)` after each epoch.

    `report` ends the trial early, by an exception that the search expects, where the value is NaN or infinite, where
    a loss exceeds three times the first one reported, and where it is worse than the median of others at that step.
    """

    number: int
    parameters: dict[str, Any]
    seed: int
    """Differs from trial to trial, and is the same when the trial is run again."""
    minimize: bool = True
    medians: Mapping[int, float] = field(default_factory=dict)
    reports: dict[int, float] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        """The value of a hyper-parameter."""
        return self.parameters[name]

    def report(self, value: float, step: int | None = None) -> None:
        """Tell the objective's value after a step, counted from 0: each one after the last unless given."""
        step = max(self.reports, default=-1) + 1 if step is None else int(step)
        value = float(value)
        self.reports[step] = value
        if not math.isfinite(value):
            raise Pruned(f"diverged: {value} at step {step}")
        first = next(iter(self.reports.values()))
        if self.minimize and 0 < LARGE * first < value:
            raise Pruned(f"diverged: {value:.4g} at step {step} is more than {LARGE:g} times the first, {first:.4g}")
        best = min(self.reports.values()) if self.minimize else max(self.reports.values())
        median = self.medians.get(step)
        if median is not None and (best > median if self.minimize else best < median):
            raise Pruned(f"behind: {best:.4g} after step {step}, where the median of trials is {median:.4g}")


Objective = Callable[[Trial], float]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a trial came to; `value` is None where it was pruned, and `reason` says why."""

    value: float | None
    reason: str
    reports: dict[int, float]
    seconds: float


def run(objective: Objective, trial: Trial) -> Outcome:
    """Run one trial: what executors are given."""
    started = time.perf_counter()
    value: float | None = None
    reason = ""
    try:
        value = float(objective(trial))
        if not math.isfinite(value):
            value, reason = None, f"diverged: the result is {value}"
    except Pruned as stop:
        reason = str(stop)
    return Outcome(value, reason, trial.reports, time.perf_counter() - started)


def medians(finished: Iterable[Mapping[int, float]]) -> dict[int, float]:
    """The median by step of the trials that ran to their end, for steps that enough of them came to."""
    by_step: dict[int, list[float]] = {}
    for reports in finished:
        for step, value in reports.items():
            by_step.setdefault(step, []).append(value)
    return {step: statistics.median(values) for step, values in by_step.items() if len(values) >= STARTUP}
