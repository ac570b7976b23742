"""Claim C1 as a pytest-benchmark group: ReLU and sigmoid in every library, and the copy that neither can beat."""

from __future__ import annotations

from typing import Any

import pytest

from fastnn.bench import suite
from fastnn.bench.claims import c1
from fastnn.bench.problems.activations import Pool
from fastnn.bench.timing import Task


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    names = metafunc.config.getoption("--bench-rivals")
    rivals = None if names is None else [] if names == "none" else names.split(",")
    who = suite.contenders(metafunc.config.getoption("--bench-threads"), rivals)
    tasks = c1.tasks(who, Pool("float32", c1.SIZE))
    ids = [f"{library}-{function}".replace(" ", "_").replace(",", "") for library, function in tasks]
    metafunc.parametrize("task", tasks.values(), ids=ids)


@pytest.mark.benchmark(group="C1: sigmoid against ReLU", warmup=True, warmup_iterations=2, max_time=0.2, min_rounds=5)
def test_sigmoid_against_relu(benchmark: Any, task: Task) -> None:
    with task.context():
        benchmark(task.run)
