"""Every op of the table, forward and backward, fastnn beside every rival that has it, grouped by op."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

from fastnn.bench import suite
from fastnn.bench.cases import Buffers, Case, Pool, expected_backward, expected_forward, parse_size
from fastnn.bench.rivals.base import Rival

JUDGED = 4096  # results checked in passing, to catch a rival that computes something else


@functools.cache
def contenders(threads: int, rivals: str | None) -> list[Rival]:
    names = None if rivals is None else [] if rivals == "none" else rivals.split(",")
    found: list[Rival] = suite.contenders(threads, names)
    return found


@functools.lru_cache(maxsize=1)
def pool(dtype: str, size: int) -> Pool:
    return Pool(dtype, size)


def chosen(config: pytest.Config) -> list[tuple[Case, Rival]]:
    sizes: str = config.getoption("--bench-sizes")
    who = contenders(config.getoption("--bench-threads"), config.getoption("--bench-rivals"))
    pairs: list[tuple[Case, Rival]] = suite.benchmarks(who, [parse_size(size) for size in sizes.split(",")])
    return pairs


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "rival" in metafunc.fixturenames:
        pairs = chosen(metafunc.config)
        names = [f"{case.op}-{case.direction}-{case.size}-{rival.label.replace(' ', '_')}" for case, rival in pairs]
        metafunc.parametrize(("case", "rival"), pairs, ids=names)


def test_every_op_is_benchmarked(pytestconfig: pytest.Config) -> None:
    pairs = chosen(pytestconfig)
    assert suite.uncovered(pairs) == []
    assert suite.strangers({rival.label: rival for _, rival in pairs}.values()) == []


@pytest.mark.benchmark(warmup=True, warmup_iterations=2, max_time=0.1, min_rounds=5, disable_gc=True)
def test_activation(benchmark: Any, case: Case, rival: Rival) -> None:
    buffers = pool(case.dtype, case.size).buffers(case)
    task = rival.task(case, buffers)
    if task is None:
        pytest.skip(f"this {rival.label} has no kernel for {case}")
    benchmark.group = str(case)
    with task.context():
        result = benchmark(task.run)
        got = rival.array(result, case)[:JUDGED].astype(np.float64)
    np.testing.assert_allclose(got, truth(case, buffers), rtol=2e-3, atol=1e-4)


def truth(case: Case, b: Buffers) -> Any:
    saved, dy = b.saved[:JUDGED].astype(np.float64), b.dy[:JUDGED].astype(np.float64)
    if case.direction == "forward":
        return expected_forward(case.row, saved, case.params)
    return expected_backward(case.row, dy, saved, case.params)
