"""Run the benchmark of a device: every cell, and claim C2 from the cells of the elementwise ops."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from fastnn.devices import checked_device, current, gpu

from .. import machine
from ..claims import c2
from ..problems.base import PASSES
from ..timing import Run
from .contenders import Contender, load
from .problems import SIZE, DeviceProblem, make, sets
from .timing import Clock, Context, measure

FORMAT = 1  # of the result file
KIND = "device"
COPY = "copy"
PACKAGES = ("fastnn", "numpy", "torch", "cupy-cuda13x", "cupy-cuda12x", "cupy")

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Settings:
    """What to measure, and how long."""

    device: str = "cuda"
    ops: tuple[str, ...] | None = None
    families: tuple[str, ...] | None = None
    directions: tuple[str, ...] = PASSES
    dtypes: tuple[str, ...] = ("float32",)
    size: int = SIZE  # elements, of the elementwise ops
    rivals: tuple[str, ...] | None = None  # of torch, torch.compile, cuDNN; None: all
    cell_seconds: float = 2.0  # for one cell, all contenders together
    min_samples: int = 7


def _silent(text: str, done: int, of: int) -> None:
    pass


def run(settings: Settings, fnn: Any, progress: Progress = _silent) -> dict[str, Any]:
    """Everything `settings` asks for, as data that json can write; ImportError or RuntimeError without a GPU."""
    place = checked_device("bench", settings.device)
    if place is None:
        raise ValueError(f"--device is {settings.device!r}; expected 'cuda' or 'cuda:N'")
    started, cupy = time.monotonic(), gpu("bench")
    problems = make(settings.ops, settings.directions, settings.dtypes, settings.size, settings.families)
    failures: list[str] = []
    with current(place):
        contenders, absent = load(fnn, settings.rivals)
        about = describe(cupy, place)
        results = []
        for done, problem in enumerate(problems):
            progress(f"{problem.op} {problem.direction}", done, len(problems))
            results.append(_cell(problem, contenders, cupy, fnn, settings, about["l2_bytes"], failures))
    progress("done", len(problems), len(problems))
    return {
        "kind": KIND,
        "format": FORMAT,
        "machine": machine.describe(PACKAGES),
        "device": about,
        "settings": asdict(settings),
        "absent": absent,
        "failures": list(dict.fromkeys(failures)),
        "seconds": round(time.monotonic() - started, 1),
        "c2": c2.figures(results),
        "results": results,
    }


def describe(cupy: Any, place: int) -> dict[str, Any]:
    """The GPU, by name, and what its speed depends on."""
    runtime = cupy.cuda.runtime
    found = runtime.getDeviceProperties(place)
    return {
        "name": found["name"].decode(),
        "number": place,
        "multiprocessors": int(found["multiProcessorCount"]),
        "l2_bytes": int(found["l2CacheSize"]),
        "cuda_runtime": int(runtime.runtimeGetVersion()),
        "cuda_driver": int(runtime.driverGetVersion()),
        "cupy": str(cupy.__version__),
    }


def _cell(
    problem: DeviceProblem,
    contenders: Iterable[Contender],
    cupy: Any,
    fnn: Any,
    settings: Settings,
    cache: int,
    failures: list[str],
) -> dict[str, Any]:
    """One problem: each contender's time, and a copy's of the same traffic."""
    count = sets(problem, cache)
    memory = [problem.buffers(cupy, fnn) for _ in range(count)]
    turns: dict[str, Sequence[Run]] = {COPY: _copies(cupy, problem.bytes_moved // 2, count)}
    contexts: dict[str, Context] = {}
    for contender in contenders:
        try:
            with contender.context():
                runs = [contender.run(problem, buffers) for buffers in memory]
                if None in runs:
                    continue
                for each in runs:
                    assert each is not None
                    each()
        except Exception as error:  # noted, and the others are measured
            said = f"{contender.label}, {problem.op} {problem.direction}: {type(error).__name__}: {error}"
            failures.append(said[:200])
            continue
        turns[contender.label] = [each for each in runs if each is not None]
        contexts[contender.label] = contender.context
    effort: dict[str, Any] = {"budget": settings.cell_seconds, "min_samples": settings.min_samples}
    timings = measure(turns, Clock(cupy.cuda), contexts, **effort)
    copy = timings.pop(COPY)
    bandwidth = 2 * (problem.bytes_moved // 2) / copy.median_s
    return {
        "family": problem.family,
        "op": problem.op,
        "pass": problem.direction,
        "dtype": problem.dtype,
        "label": problem.label,
        "size": problem.size,
        "bytes": problem.bytes_moved,
        "sets": count,
        "copy": copy.as_dict() | {"gb_per_s": bandwidth / 1e9},
        "contenders": {
            name: timing.as_dict()
            | {
                "gb_per_s": problem.bytes_moved / timing.median_s / 1e9,
                "share_of_copy": problem.bytes_moved / timing.median_s / bandwidth,
            }
            for name, timing in timings.items()
        },
    }


def _copies(cupy: Any, count: int, sets: int) -> list[Run]:
    """Copies of so many bytes, each set in memory of its own."""
    pairs = [(cupy.empty(count, "uint8"), cupy.zeros(count, "uint8")) for _ in range(sets)]
    return [partial(cupy.copyto, target, source) for target, source in pairs]
