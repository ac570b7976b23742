"""Long loops on several threads: plain Python threads, since compiled loops hold no lock on the interpreter.

Numba's own parallel loops are not used: one of its thread layers must not be entered from two threads at once, the
others do not survive a fork. Every element is computed on its own, so that results do not depend on the number of
threads.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from fastnn.kernels.jit.loops import Entry
from fastnn.threads import get_num_threads

SHARE = 1 << 17  # elements that are worth a thread
_GRAIN = 1 << 12  # shares begin at multiples of this

_executor: ThreadPoolExecutor | None = None
_workers = 0
_lock = threading.Lock()


def run(loop: Entry, out: Any, operands: tuple[Any, ...]) -> None:
    """Run a loop over one-dimensional arrays, in shares where they are long."""
    threads = 1 if out.size < 2 * SHARE else min(get_num_threads(), out.size // SHARE)
    if threads == 1:
        loop(None, out, operands)
        return
    length = -(-out.size // (threads * _GRAIN)) * _GRAIN
    shares = [slice(first, first + length) for first in range(0, out.size, length)]
    cut = [(out[share], tuple(_cut(operand, share) for operand in operands)) for share in shares]
    waiting = [_submit(threads - 1, loop, *arguments) for arguments in cut[1:]]
    loop(None, *cut[0])
    for arguments, future in zip(cut[1:], waiting, strict=True):
        if future is None or future.cancel():  # no worker has come to it yet
            loop(None, *arguments)
        else:
            future.result()


def _cut(operand: Any, share: slice) -> Any:
    return operand[share] if isinstance(operand, np.ndarray) else operand


def _submit(workers: int, loop: Entry, *arguments: Any) -> Future[None] | None:
    """Hand a share to a worker; None where there is none any more, while the interpreter shuts down."""
    global _executor, _workers
    with _lock:
        if _executor is None or _workers < workers:
            if _executor is not None:
                _executor.shutdown(wait=False)
            _executor, _workers = ThreadPoolExecutor(workers, "fastnn"), workers
        try:
            return _executor.submit(loop, None, *arguments)
        except RuntimeError:
            return None


def _after_fork() -> None:
    """A child has none of its parent's threads, and a lock that some other thread may have held."""
    global _executor, _lock
    _executor, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
