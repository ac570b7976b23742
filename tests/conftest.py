"""Fixtures: settings of the process that a test may change, and that are put back after it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import fastnn as fnn
from fastnn.kernels.cpu import activations


@pytest.fixture
def restore() -> Iterator[None]:
    """Put instruction set, number of threads and backend back."""
    isa, threads, backend = activations.isa(), fnn.get_num_threads(), fnn.backend()
    yield
    activations.set_isa(isa)
    fnn.set_num_threads(threads)
    if fnn.backend() != backend:
        fnn.use(backend)
