"""Run the benchmark: claim C1, then every cell; progress goes to a callback, results come back as plain data."""

from __future__ import annotations

import gc
import importlib.util
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from . import machine, memory
from .claims import c1
from .problems import FAMILIES, activations, make_problems
from .problems.activations import MAIN_SIZE, SIZES
from .problems.base import PASSES, Array, Buffers, Problem, aligned, check_choice
from .rivals import RIVALS, fastnn_
from .rivals import load as load_rivals
from .rivals.base import Rival
from .timing import Task, measure

FORMAT = 2  # of the result file
COPY = "np.copyto"
PACKAGES = ("fastnn", "numpy", "numba", "scipy", "numexpr", "torch", "jax", "jaxlib", "onnxruntime")

Progress = Callable[[str, int, int], None]  # what is being measured, cells done, cells in all


@dataclass(frozen=True, slots=True)
class Settings:
    """What to measure, and how long."""

    ops: tuple[str, ...] | None = None  # None: every function of the families
    families: tuple[str, ...] = FAMILIES
    directions: tuple[str, ...] = PASSES
    sizes: tuple[int, ...] = SIZES  # of the activations
    mandatory: bool = False  # of the other functions only those that have a target, in one shape
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
        self.problems()
        check_choice("backend", self.backends, fastnn_.BACKENDS)
        if self.rivals:
            check_choice("rival", self.rivals, RIVALS)
        if self.threads < 1:
            raise ValueError(f"threads must be at least 1, got {self.threads}")
        if "bfloat16" in self.dtypes and importlib.util.find_spec("ml_dtypes") is None:
            raise ValueError('dtype "bfloat16" needs ml_dtypes: pip install ml_dtypes')

    def problems(self) -> list[Problem]:
        """The cells to measure; ValueError if a name or a size is wrong."""
        return make_problems(self.ops, self.directions, self.dtypes, self.sizes, self.families, self.mandatory)

    def quick(self) -> Settings:
        """Under a minute: one size, the native backend, few samples."""
        return replace(
            self,
            sizes=(MAIN_SIZE,) if self.sizes == SIZES else self.sizes,
            mandatory=self.mandatory or (self.ops is None and self.families == FAMILIES),
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
    gc.collect()
    gc.freeze()  # the libraries' own objects: what is collected between cells is then little
    problems = settings.problems()
    settle = settings.threads > 1

    claim = None
    if any(problem.family == activations.FAMILY for problem in problems):
        progress("claim C1: sigmoid against ReLU", 0, len(problems))
        claim = c1.run([*backends, *rivals], size=settings.claim_size, budget=settings.claim_seconds, settle=settle)

    results: list[dict[str, Any]] = []
    accuracy: list[dict[str, Any]] = []
    failures: list[str] = []
    judged: set[tuple[str, str]] = set()
    for done, problem in enumerate(problems):
        progress(str(problem), done, len(problems))
        if (problem.function, problem.dtype) not in judged:
            judged.add((problem.function, problem.dtype))
            accuracy += judge(problem, table, failures)
        budget = settings.cell_seconds
        if settings.total_seconds is not None:
            left = settings.total_seconds - (time.monotonic() - started)
            budget = min(budget, max(left / (len(problems) - done), 0.02))
        results.append(measure_problem(problem, table, budget, settings.min_samples, settle, failures))
    progress("done", len(problems), len(problems))

    greedy = sorted(_greedy(results, settings.threads))
    if greedy:
        notes.append(f"Used more CPU time than {settings.threads} thread(s) can: {', '.join(greedy)}.")
    notes += [f"Failed: {failure}." for failure in dict.fromkeys(failures)]
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


def attempt(problem: Problem, rival: Rival, buffers: Buffers) -> tuple[Task, list[Array | None]] | None:
    """The contender's task and what it computed when run once; None where it does not offer the function.

    ValueError where it fails: one contender's failure is noted, and the others are measured.
    """
    try:
        task = rival.task(problem, buffers)
        if task is None:
            return None
        with task.context():
            return task, rival.arrays(task, task.run())
    except NotImplementedError:  # no kernel for this dtype
        return None
    except Exception as error:
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"{rival.label}, {problem}: {said[:160]}") from error


def measure_problem(
    problem: Problem, contenders: Iterable[Rival], budget: float, min_samples: int, settle: bool, failures: list[str]
) -> dict[str, Any]:
    buffers = problem.buffers()
    source, target = (aligned(problem.bytes_copied, np.dtype(np.uint8)) for _ in range(2))
    source.fill(0)
    tasks = {COPY: Task(lambda: np.copyto(target, source))}
    beyond: dict[str, int] = {}
    for rival in contenders:
        try:
            made = attempt(problem, rival, buffers)
        except ValueError as error:
            failures.append(str(error))
            continue
        if made is not None:
            tasks[rival.label] = made[0]
            if rival.traced and problem.family != activations.FAMILY:
                beyond[rival.label] = memory.beyond_results(made[0])
    timings = measure(tasks, budget=budget, min_samples=min_samples, settle=settle)
    copy = timings.pop(COPY)
    bandwidth = 2 * problem.bytes_copied / copy.median
    found: dict[str, Any] = {}
    for name, timing in timings.items():
        speed = problem.bytes_moved / timing.median
        found[name] = timing.as_dict() | {
            "ns_per_element": 1e9 * timing.median / problem.size,
            "gb_per_s": speed / 1e9,
            "share_of_copy": speed / bandwidth,
        }
        if problem.flops is not None:
            found[name]["gflop_per_s"] = problem.flops / timing.median / 1e9
        if name in beyond:
            found[name]["beyond_bytes"] = beyond[name]
    return problem.key | {
        "bytes": problem.bytes_moved,
        "copy": copy.as_dict() | {"gb_per_s": bandwidth / 1e9, "bytes": 2 * problem.bytes_copied},
        "contenders": found,
    }


def judge(problem: Problem, contenders: Sequence[Rival], failures: list[str]) -> list[dict[str, Any]]:
    """Largest error of every contender that offers the function; independent of the shape measured."""
    one = problem.judge()
    found: list[dict[str, Any]] = []
    if one is None:
        return found
    for rival in contenders:
        try:
            made = attempt(one.problem, rival, one.buffers())
        except ValueError as error:
            failures.append(str(error))
            continue
        verdict = None if made is None else one.judge(made[1], exact=isinstance(rival, fastnn_.Backend))
        if verdict is not None:
            key = {"family": problem.family, "op": problem.op, "pass": problem.direction, "dtype": problem.dtype}
            found.append(key | {"contender": rival.label} | verdict.as_dict())
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
