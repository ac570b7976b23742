"""What holds for every test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

import fastnn as fnn
from fastnn.kernels.cpu import runtime

# Processes that tests start must not find fastnn in the current folder, which may be that of the sources, uncompiled.
os.environ["PYTHONSAFEPATH"] = "1"


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    """The settings of the process are the next test's as they were this one's."""
    isa, threads, backend = runtime.isa(), fnn.get_num_threads(), fnn.backend()
    yield
    if runtime.isa() != isa:
        runtime.set_isa(isa)
    if fnn.get_num_threads() != threads:
        fnn.set_num_threads(threads)
    if fnn.backend() != backend:
        fnn.use(backend)
