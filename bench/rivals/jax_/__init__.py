"""JAX: jitted, inputs on the device, output buffers donated; backward is the jitted vector-Jacobian product.

Backward is compiled from the same saved arrays that everyone gets, so that no work is moved into an untimed forward.
"""

from __future__ import annotations

import importlib
import os
import sys

from ..base import Rival


def _limit_threads(threads: int) -> None:
    """XLA sizes its thread pool when it starts, so this must come before the import."""
    if "jax" in sys.modules:
        return
    os.environ.setdefault("NPROC", str(threads))
    if threads == 1 and "xla_cpu_multi_thread_eigen" not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false".strip()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")


def make(threads: int) -> Rival:
    _limit_threads(threads)
    rival: Rival = importlib.import_module(".rival", __package__).Jax(threads)
    return rival
