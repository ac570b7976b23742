"""The BLAS behind NumPy and SciPy has threads of its own, which must be as many as everybody's."""

from __future__ import annotations

import importlib


def limit(threads: int) -> None:
    """Give every BLAS of the process this many threads, from now on; without threadpoolctl that is left as it is."""
    try:
        threadpoolctl = importlib.import_module("threadpoolctl")
    except ImportError:
        return
    threadpoolctl.threadpool_limits(threads, user_api="blas")
