"""What the machine can do: arithmetic by a large matrix product of the BLAS, memory by a copy."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

SIZE = 512  # a millisecond or two, in which a busy machine may leave one alone
SECONDS = 0.3


def gflops() -> float:
    """10^9 multiplications and additions a second, of float32, with as many threads as the BLAS has now."""
    a = np.random.default_rng(0).standard_normal((SIZE, SIZE), np.float32)
    out = np.empty_like(a)
    return 2e-9 * SIZE**3 / _best(lambda: np.matmul(a, a, out=out))


def copy_rate(size: int) -> float:
    """Bytes a second, those read and those written, that np.copyto moves in blocks of `size` bytes, cached or not."""
    a, b = np.ones(size, np.uint8), np.empty(size, np.uint8)
    return 2 * size / _best(lambda: np.copyto(b, a))


def _best(run: Any) -> float:
    """The shortest time, after a warm-up."""
    found: list[float] = []
    end = time.perf_counter() + SECONDS
    run()
    while len(found) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return min(found)
