"""Long loops on several threads: plain Python threads, since compiled loops hold no lock on the interpreter.

Numba's own parallel loops are not used: one of its thread layers must not be entered from two threads at once, the
others do not survive a fork. Every element is computed on its own, so that results do not depend on the number of
threads.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
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
    if _threads(out.size) == 1:
        loop(None, out, operands)
        return

    def share(begin: int, end: int) -> None:
        part = slice(begin, end)
        loop(None, out[part], tuple(_cut(operand, part) for operand in operands))

    run_ranges(out.size, share)


def run_ranges(n: int, function: Callable[[int, int], None], each: int = 1) -> None:
    """Call function(begin, end) for ranges of n items of `each` elements, on several threads if they are many."""
    threads = min(n, _threads(n * each))
    if threads <= 1:
        function(0, n)
        return
    grain = _GRAIN if each == 1 else 1
    length = -(-n // (threads * grain)) * grain
    shares = [(begin, min(n, begin + length)) for begin in range(0, n, length)]
    waiting = [_submit(threads - 1, function, *share) for share in shares[1:]]
    function(*shares[0])
    for share, future in zip(shares[1:], waiting, strict=True):
        if future is None or future.cancel():  # no worker has come to it yet
            function(*share)
        else:
            future.result()


def _threads(elements: int) -> int:
    return 1 if elements < 2 * SHARE else min(get_num_threads(), elements // SHARE)


def _cut(operand: Any, share: slice) -> Any:
    return operand[share] if isinstance(operand, np.ndarray) else operand


def _submit(workers: int, function: Callable[[int, int], None], begin: int, end: int) -> Future[None] | None:
    """Hand a share to a worker; None where there is none any more, while the interpreter shuts down."""
    global _executor, _workers
    with _lock:
        if _executor is None or _workers < workers:
            if _executor is not None:
                _executor.shutdown(wait=False)
            _executor, _workers = ThreadPoolExecutor(workers, "fastnn"), workers
        try:
            return _executor.submit(function, begin, end)
        except RuntimeError:
            return None


def _after_fork() -> None:
    """A child has none of its parent's threads, and a lock that some other thread may have held."""
    global _executor, _lock
    _executor, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
