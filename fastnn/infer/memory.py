"""Memory that begins with a cache line: vectors of weights and values then lie within lines."""

from __future__ import annotations

import numpy as np

from fastnn.infer.graph import Array

LINE = 64  # bytes


def block(size: int) -> Array:
    """So many bytes."""
    memory = np.empty(size + LINE, np.uint8)
    begin = -memory.ctypes.data % LINE
    return memory[begin : begin + size]


def aligned(array: Array) -> Array:
    """A copy of an array in such memory."""
    made = block(array.nbytes).view(array.dtype).reshape(array.shape)
    made[...] = array
    return made
