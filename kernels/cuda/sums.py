"""Sums over whole arrays: how many blocks leave a partial sum each, and the kernel that adds those up. See sums.cuh."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels.cuda.compiler import Family, cupy, launch

ADD_UP = "add_up"
_BLOCK_ELEMENTS = 8192  # of a block at least
_MOST = 1024  # partial sums


def blocks(elements: int) -> int:
    """How many blocks share a sum over so many elements: a matter of their number alone."""
    return max(1, min(_MOST, elements // _BLOCK_ELEMENTS))


def threads(elements: int) -> int:
    """How many threads such a block has: a matter of that number too."""
    return 32 * max(1, min(8, elements // 128))


def partial_sums(elements: int, kinds: int = 1) -> Any:
    """Memory for the sums of so many kinds that every block leaves."""
    return cupy().empty(blocks(elements) * kinds, np.float64)


def added_up(family: Family, dtype: Any, partial: Any, kinds: int = 1) -> Any:
    """The totals of `kinds` arrays that lie one behind the other: an array of so many doubles on the device."""
    kernel, count = family.kernel(ADD_UP, dtype), partial.size // kinds
    if blocks(count) > 1:
        smaller = partial_sums(count, kinds)
        launch(kernel, blocks(count), partial, smaller, count, kinds)
        partial, count = smaller, blocks(count)
    totals = cupy().empty(kinds, np.float64)
    launch(kernel, 1, partial, totals, count, kinds, threads=threads(count))
    return totals
