"""How much memory a call needs beyond the results it returns: a hidden copy shows here.

NumPy tells tracemalloc of every array it allocates, and Cython modules allocate theirs through NumPy. Scratch space
that compiled loops keep for themselves is not seen; it is bounded, and a kernel's comment says by how much.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np

from .rivals.base import flat
from .timing import Task

SMALL = 4096  # Python objects, shapes, views: not what is looked for


def beyond_results(task: Task) -> int:
    """The most bytes that one call held at any time, less the new arrays among its results; 0 for a few kilobytes."""
    with task.context():
        task.run()
        gc.disable()
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            result = task.run()
            after, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            gc.enable()
    kept = min(sum(array.nbytes for array in _owned(result)), max(after - before, 0))
    extra = peak - before - kept
    return extra if extra > SMALL else 0


def _owned(result: Any) -> Iterator[np.ndarray[Any, Any]]:
    """The arrays that own the memory of the results, each once."""
    seen: set[int] = set()
    for item in flat(result):
        owner = item
        while isinstance(owner, np.ndarray) and isinstance(owner.base, np.ndarray):
            owner = owner.base
        if isinstance(owner, np.ndarray) and id(owner) not in seen:
            seen.add(id(owner))
            yield owner
