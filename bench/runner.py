"""Run the benchmark: claim C1, then every cell; progress goes to a callback, results come back as plain data."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from fastnn.table import OPS

from . import machine
from .accuracy import Judge
from .cases import PASSES, QUICK_SIZES, SIZES, Case, Pool, check_choice, make_cases
from .claims import c1
from .rivals import RIVALS, fastnn_
from .rivals import load as load_rivals
from .rivals.base import Rival
from .timing import Task, measure

FORMAT = 1  # of the result file
COPY = "np.copyto"
PACKAGES = ("fastnn", "numpy", "numba", "scipy", "numexpr", "torch", "jax", "jaxlib", "onnxruntime")

Progress = Callable[[str, int, int], None]  # what is being measured, cells done, cells in all


@dataclass(frozen=True, slots=True)
class Settings:
    """What to measure, and how long."""

    ops: tuple[str, ...] = tuple(OPS)
    directions: tuple[str, ...] = PASSES
    sizes: tuple[int, ...] = SIZES
    dtypes: tuple[str, ...] = ("float32",)
    rivals: tuple[str, ...] = tuple(RIVALS)
    backends: tuple[str, ...] = ("native", "numba")
    threads: int = 1
    cell_seconds: float = 1.2  # time to spend on one cell, all contenders together
    min_samples: int = 5
    claim_seconds: float = 8.0
    claim_size: int = c1.SIZE
    total_seconds: float | None = None  # cells get less time where this would be exceeded

    def __post_init__(self) -> None:
        self.cases()
        check_choice("backend", self.backends, fastnn_.BACKENDS)
        if self.rivals:
            check_choice("rival", self.rivals, RIVALS)
        if self.threads < 1:
            raise ValueError(f"threads must be at least 1, got {self.threads}")
        if "bfloat16" in self.dtypes and importlib.util.find_spec("ml_dtypes") is None:
            raise ValueError('dtype "bfloat16" needs ml_dtypes: pip install ml_dtypes')

    def cases(self) -> list[Case]:
        """The cells to measure; ValueError if a name or a size is wrong."""
        return make_cases(self.ops, self.directions, self.dtypes, self.sizes)

    def quick(self) -> Settings:
        """Under a minute: one size, the native backend, few samples."""
        return replace(
            self,
            sizes=QUICK_SIZES if self.sizes == SIZES else self.sizes,
            backends=("native",),
            cell_seconds=0.3,
            min_samples=3,
            claim_seconds=3.0,
            total_seconds=30.0,
        )


def _silent(text: str, done: int, of: int) -> None:
    pass


def run(settings: Settings, progress: Progress = _silent) -> dict[str, Any]:
    """Everything `settings` asks for, as data that json can write."""
    started = time.monotonic()
    notes = machine.warnings()
    progress("loading libraries", 0, 0)
    backends, absent_backends = fastnn_.load(fastnn_.BACKENDS, settings.threads)
    rivals, absent = load_rivals(settings.rivals, settings.threads) if settings.rivals else ([], {})
    table = [*(one for one in backends if one.backend in settings.backends), *rivals]
    cases = settings.cases()
    settle = settings.threads > 1

    progress("claim C1: sigmoid against ReLU", 0, len(cases))
    claim = c1.run([*backends, *rivals], size=settings.claim_size, budget=settings.claim_seconds, settle=settle)

    results: list[dict[str, Any]] = []
    accuracy: list[dict[str, Any]] = []
    judged: set[tuple[str, str, str]] = set()
    pool: Pool | None = None
    for done, case in enumerate(cases):
        progress(str(case), done, len(cases))
        if pool is None or (pool.dtype, pool.size) != (case.dtype, case.size):
            pool = None  # let go of the old arrays before asking for new ones
            pool = Pool(case.dtype, case.size)
        if (case.op, case.direction, case.dtype) not in judged:
            judged.add((case.op, case.direction, case.dtype))
            accuracy += judge(case, table)
        budget = settings.cell_seconds
        if settings.total_seconds is not None:
            left = settings.total_seconds - (time.monotonic() - started)
            budget = min(budget, max(left / (len(cases) - done), 0.02))
        results.append(measure_case(case, pool, table, budget, settings.min_samples, settle))
    progress("done", len(cases), len(cases))

    greedy = sorted(_greedy(results, settings.threads))
    if greedy:
        notes.append(f"Used more CPU time than {settings.threads} thread(s) can: {', '.join(greedy)}.")
    return {
        "format": FORMAT,
        "machine": machine.describe(PACKAGES),
        "settings": asdict(settings),
        "absent": absent_backends | absent,
        "warnings": notes,
        "seconds": round(time.monotonic() - started, 1),
        "c1": claim,
        "results": results,
        "accuracy": accuracy,
    }


def measure_case(
    case: Case, pool: Pool, contenders: Iterable[Rival], budget: float, min_samples: int, settle: bool
) -> dict[str, Any]:
    buffers = pool.buffers(case)
    tasks = {COPY: Task(lambda: np.copyto(pool.out, pool.x))}
    for rival in contenders:
        task = rival.task(case, buffers)
        if task is not None:
            tasks[rival.label] = task
    timings = measure(tasks, budget=budget, min_samples=min_samples, settle=settle)
    copy = timings.pop(COPY)
    copy_bytes = 2 * case.size * pool.x.itemsize
    found: dict[str, Any] = {}
    for name, timing in timings.items():
        speed = case.bytes_moved / timing.median
        found[name] = timing.as_dict() | {
            "ns_per_element": 1e9 * timing.median / case.size,
            "gb_per_s": speed / 1e9,
            "share_of_copy": speed / (copy_bytes / copy.median),
        }
    return {
        "op": case.op,
        "pass": case.direction,
        "dtype": case.dtype,
        "size": case.size,
        "copy": copy.as_dict() | {"gb_per_s": copy_bytes / copy.median / 1e9},
        "contenders": found,
    }


def judge(case: Case, contenders: Sequence[Rival]) -> list[dict[str, Any]]:
    """Max ULP of every contender that offers the op; independent of the size measured."""
    inputs = Pool(case.dtype, 65_536)
    one = Judge(case, inputs.x, inputs.dy)
    found: list[dict[str, Any]] = []
    for rival in contenders:
        task = rival.task(one.case, one.buffers())
        if task is None:
            continue
        with task.context():
            got = rival.array(task.run(), one.case)
        verdict = one.judge(got)
        if verdict is not None:
            key = {"op": case.op, "pass": case.direction, "dtype": case.dtype, "contender": rival.label}
            found.append(key | verdict.as_dict())
    return found


def _greedy(results: list[dict[str, Any]], threads: int) -> set[str]:
    """Contenders that in some large cell kept clearly more cores busy than they were allowed."""
    large = [result for result in results if result["size"] >= 65_536]
    return {
        name
        for result in large
        for name, timing in result["contenders"].items()
        if timing["cores"] > 1.2 * threads and timing["samples"] * timing["inner"] * timing["median_s"] > 0.02
    }
