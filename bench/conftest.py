"""Options of `pytest bench`."""

from __future__ import annotations

import importlib.util

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fastnn bench")
    group.addoption("--bench-sizes", default="65536,1000000", help="numbers of elements of activations, with commas")
    group.addoption("--bench-families", default=None, help="families of functions, with commas (default: all)")
    group.addoption(
        "--bench-rivals", default=None, help='rivals, separated by commas, or "none" (default: all installed)'
    )
    group.addoption("--bench-threads", default=1, type=int, help="threads for every library")


@pytest.hookimpl(tryfirst=True)  # before pytest-benchmark reads its options
def pytest_configure(config: pytest.Config) -> None:
    if importlib.util.find_spec("pytest_benchmark") is None:
        raise pytest.UsageError('the suites under bench/ need pytest-benchmark: pip install "fastnn[bench]"')
    if not any(str(word).startswith("--benchmark-columns") for word in config.invocation_params.args):
        config.option.benchmark_columns = ["min", "median", "iqr", "rounds"]  # what fits beside the long names
