"""Every function of the table, forward and backward, fastnn beside every rival that has it, grouped by problem."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from fastnn.bench import suite
from fastnn.bench.problems import FAMILIES, make_problems
from fastnn.bench.problems.activations import parse_size
from fastnn.bench.problems.base import Buffers, Judge, Problem
from fastnn.bench.rivals.base import Rival


@functools.cache
def contenders(threads: int, rivals: str | None) -> list[Rival]:
    names = None if rivals is None else [] if rivals == "none" else rivals.split(",")
    found: list[Rival] = suite.contenders(threads, names)
    return found


@functools.lru_cache(maxsize=1)
def judge(problem: Problem) -> Judge | None:
    return problem.judge()


@functools.lru_cache(maxsize=1)
def buffers(problem: Problem) -> Buffers:
    return problem.buffers()


def chosen(config: pytest.Config) -> list[tuple[Problem, Rival]]:
    sizes: str = config.getoption("--bench-sizes")
    families: str | None = config.getoption("--bench-families")
    problems = make_problems(
        sizes=[parse_size(size) for size in sizes.split(",")],
        families=FAMILIES if families is None else families.split(","),
    )
    who = contenders(config.getoption("--bench-threads"), config.getoption("--bench-rivals"))
    pairs: list[tuple[Problem, Rival]] = suite.benchmarks(who, problems)
    return pairs


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "rival" in metafunc.fixturenames:
        pairs = chosen(metafunc.config)
        names = [
            f"{problem.function}-{problem.label}-{rival.label}".replace(" ", "_").replace(",", "")
            for problem, rival in pairs
        ]
        metafunc.parametrize(("problem", "rival"), pairs, ids=names)


def test_every_function_is_benchmarked(pytestconfig: pytest.Config) -> None:
    pairs = chosen(pytestconfig)
    if pytestconfig.getoption("--bench-families") is None:
        assert suite.missing(pairs) == []
    assert suite.strangers({rival.label: rival for _, rival in pairs}.values()) == []


@pytest.mark.benchmark(warmup=True, warmup_iterations=2, max_time=0.1, min_rounds=5, disable_gc=True)
def test_function(benchmark: Any, problem: Problem, rival: Rival) -> None:
    check(problem, rival)
    task = rival.task(problem, buffers(problem))
    if task is None:
        pytest.skip(f"this {rival.label} has nothing for {problem}")
    benchmark.group = str(problem)
    with task.context():
        benchmark(task.run)


def check(problem: Problem, rival: Rival) -> None:
    """The contender computes what the table says: seen in passing, to catch what computes something else."""
    one = judge(problem)
    task = None if one is None else rival.task(one.problem, one.buffers())
    if one is None or task is None:
        return
    with task.context():
        got = rival.arrays(task, task.run())
    exact = rival.label == suite.OURS
    assert one.agrees(got, exact), f"{rival.label}: {one.judge(got, exact)}"
