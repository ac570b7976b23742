"""`fastnn certify`: measure the accuracy of every implementation and compare it with the promises of the op table."""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import datetime
import importlib
import importlib.metadata
import importlib.util
import multiprocessing
import os
import platform
import sys
import time
from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastnn import sweep
from fastnn.accuracy import COMMITTED, Certificate, Record
from fastnn.implementations import BACKENDS, Implementation, find, named
from fastnn.table import OPS
from fastnn.ulp import FLOAT32, FLOAT64, Tally

DTYPES = ("float32", "float64", "float16", "bfloat16")
STRIDE, QUICK_STRIDE = 4099, 262147  # primes, so that successive patterns differ in their low bits
POINTS, QUICK_POINTS = 1600, 240  # float64 arguments per op, pass and set of parameters


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("op", nargs="*", help="ops to certify (default: all)")
    parser.add_argument("--exhaustive", action="store_true", help="all 2^32 float32 patterns with default parameters")
    parser.add_argument("--stride", type=int, help=f"every n-th float32 pattern (default {STRIDE})")
    parser.add_argument("--quick", action="store_true", help="few patterns: a check of seconds")
    parser.add_argument("--dtype", action="append", choices=DTYPES, help="may be repeated (default: all)")
    parser.add_argument("--backend", help=f"comma-separated: {','.join(BACKENDS)} (default: all)")
    parser.add_argument("--isa", help="comma-separated instruction sets of the native backend (default: all)")
    parser.add_argument("--jobs", type=int, help="processes (default: one per usable core, 1 with --quick)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the certificate as JSON")
    parser.add_argument("--write", action="store_true", help="write it to where fastnn.accuracy() reads it")


def main(args: argparse.Namespace) -> int:
    """Run the command; the exit status is 1 if a promise is broken."""
    try:
        chosen = find(_split(args.backend), _split(args.isa))
        certificate = run(
            args.op or None,
            implementations=chosen,
            dtypes=args.dtype,
            exhaustive=args.exhaustive,
            quick=args.quick,
            stride=args.stride,
            jobs=args.jobs,
            progress=True,
        )
    except (ValueError, ImportError) as error:
        print(f"fastnn certify: {error}", file=sys.stderr)
        return 2
    print(certificate)
    for path in [args.json, COMMITTED if args.write else None]:
        if path is not None:
            certificate.save(path)
    return 0 if certificate.ok else 1


def run(
    ops: Sequence[str] | None = None,
    *,
    implementations: Sequence[Implementation] | None = None,
    dtypes: Sequence[str] | None = None,
    exhaustive: bool = False,
    quick: bool = False,
    stride: int | None = None,
    jobs: int | None = None,
    progress: bool = False,
) -> Certificate:
    """Measure and return a certificate. More than one job needs implementations that have a name to find them by."""
    for name in ops or ():
        if name not in OPS:
            raise ValueError(f"op: expected some of {', '.join(OPS)}; got {name!r}")
    stride = stride if stride is not None else QUICK_STRIDE if quick else STRIDE
    jobs = jobs if jobs is not None else 1 if quick else _usable_cores()
    if stride < 1 or jobs < 1:
        raise ValueError(f"stride and jobs: expected at least 1; got {stride} and {jobs}")
    chosen = list(implementations) if implementations is not None else find()
    dtypes = _installed(dtypes)
    started = time.perf_counter()
    tasks = list(plan(list(ops or OPS), dtypes, exhaustive=exhaustive, stride=stride, quick=quick))
    totals: dict[tuple[str, str, str, str], Tally] = defaultdict(Tally)
    with contextlib.closing(_execute(tasks, chosen, jobs)) as results:
        for task, tallies in _progress(results, len(tasks)) if progress else results:
            for (direction, name), tally in tallies.items():
                totals[task.op, direction, task.dtype, name].merge(tally)
    records = tuple(_record(key, tally, exhaustive) for key, tally in totals.items())
    order = {name: index for index, name in enumerate(OPS)}
    records = tuple(sorted(records, key=lambda record: (order[record.op], record.direction != "forward")))
    header = _header(exhaustive, stride, time.perf_counter() - started)
    return Certificate(header, records)


def plan(
    ops: Sequence[str], dtypes: Sequence[str], *, exhaustive: bool, stride: int, quick: bool
) -> Iterator[sweep.Task]:
    """The tasks of a run. Only the default parameters are swept exhaustively."""
    for name in ops:
        for index, params in enumerate(OPS[name].parameter_sets):
            for direction in ("forward", "backward"):
                for dtype in dtypes:
                    if dtype == "float32":
                        steps = [1, stride] if exhaustive and index == 0 else [stride]
                        for step in steps:
                            for start, stop in sweep.blocks(sweep.PATTERNS, step, 64 if step == 1 else 1):
                                yield sweep.Task(name, direction, dtype, params, start, stop, step)
                    else:
                        points = QUICK_POINTS if quick else POINTS
                        yield sweep.Task(name, direction, dtype, params, stop=points)


Result = tuple[sweep.Task, sweep.Tallies]
_workers: list[Implementation] = []


def _execute(tasks: Sequence[sweep.Task], chosen: Sequence[Implementation], jobs: int) -> Generator[Result, None, None]:
    """Run the tasks here, or in processes that find their implementations by name."""
    if jobs == 1:
        threads = _set_threads(1)
        try:
            for task in tasks:
                yield task, sweep.execute(task, chosen)
        finally:
            _set_threads(threads)
        return
    names = [implementation.name for implementation in chosen]
    with concurrent.futures.ProcessPoolExecutor(
        jobs, multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(names,)
    ) as pool:
        yield from pool.map(_work, tasks)


def _start_worker(names: Sequence[str]) -> None:
    _set_threads(1)
    _workers[:] = [named(name) for name in names]


def _work(task: sweep.Task) -> Result:
    return task, sweep.execute(task, _workers)


def _set_threads(number: int) -> int:
    """Set the number of threads and return the one before."""
    fastnn = importlib.import_module("fastnn")
    before: int = fastnn.get_num_threads()
    fastnn.set_num_threads(number)
    return before


def _usable_cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _record(key: tuple[str, str, str, str], tally: Tally, exhaustive: bool) -> Record:
    op, direction, dtype, name = key
    row = OPS[op]
    formats = {"float32": FLOAT32, "float64": FLOAT64}
    # The reference backend's float64 results are the textbook formulas themselves, for which nothing is promised.
    promised = dtype in formats and not (dtype == "float64" and name == "reference")
    bound = row.forward_ulp if direction == "forward" else row.backward_ulp
    return Record(
        op=op,
        direction=direction,
        dtype=dtype,
        implementation=name,
        patterns=tally.patterns,
        exhaustive=exhaustive and dtype == "float32",
        max_ulp=tally.normal.error,
        at=tally.normal.at,
        params=tally.normal.params,
        dy=tally.normal.dy,
        exact=tally.normal.exact,
        got=tally.normal.got,
        promise=bound if promised else None,
        subnormal=tally.subnormal.error,
        near_zero=tally.near_zero.error,
        near_zero_promise=formats[dtype].near_zero if promised and row.zeros else 0.0,
        mismatches=tally.mismatches,
        mismatch_at=tally.mismatch.at,
    )


def _header(exhaustive: bool, stride: int, seconds: float) -> dict[str, Any]:
    return {
        "fastnn": _version("fastnn"),
        "date": datetime.date.today().isoformat(),
        "cpu": _cpu(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": _version("numba"),
        "float32": "all 2^32 patterns with default parameters" if exhaustive else f"every {stride}th pattern",
        "seconds": round(seconds),
    }


def _cpu() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _installed(dtypes: Sequence[str] | None) -> Sequence[str]:
    """The dtypes asked for; by default those whose packages are installed."""
    packages = {"float64": "mpmath", "bfloat16": "ml_dtypes"}
    missing = {dtype: name for dtype, name in packages.items() if importlib.util.find_spec(name) is None}
    if dtypes is None:
        for dtype, name in missing.items():
            print(f"fastnn certify: without {dtype}, which needs {name}", file=sys.stderr)
        return [dtype for dtype in DTYPES if dtype not in missing]
    for dtype in dtypes:
        if dtype in missing:
            raise ValueError(f"dtype: {dtype} needs {missing[dtype]}, which is not installed")
    return dtypes


def _split(text: str | None) -> list[str] | None:
    return text.split(",") if text else None


def _progress(results: Iterable[Result], total: int) -> Iterator[Result]:
    """tqdm where it is installed, else a line now and then."""
    try:
        from tqdm import tqdm
    except ImportError:
        shown = time.monotonic()
        for done, result in enumerate(results, start=1):
            if time.monotonic() - shown > 5:
                shown = time.monotonic()
                print(f"{result[0].op}: {done} of {total} parts", file=sys.stderr)
            yield result
    else:
        yield from tqdm(results, total=total, desc="certify", unit="part", file=sys.stderr)
