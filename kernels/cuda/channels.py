"""How passes over arrays (outer, channels, inner) are cut: see channels.cuh."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels.cuda.compiler import cupy

_SHORT = 32  # as in channels.cuh
_MOST = 1 << 20  # blocks; the kernels' loops take any number of them


def shares(outer: int, channels: int, inner: int, blocks: int = 1024) -> int:
    """Into how many shares a channel's elements are cut, for about so many blocks: a matter of the shape alone."""
    columns = inner < _SHORT
    units = -(-channels * inner // 32) if columns else channels
    elements = outer * (32 if columns else inner)
    return max(1, min(blocks // max(1, units), elements // 8192))


def tasks(channels: int, inner: int, splits: int) -> int:
    """How many blocks take a share each."""
    units = -(-channels * inner // 32) if inner < _SHORT else channels
    return min(_MOST, units * splits)


def partial_sums(kinds: int, channels: int, inner: int, splits: int) -> Any:
    """Memory for so many sums of every share."""
    width = inner if inner < _SHORT else 1
    return cupy().empty(max(1, kinds * splits * channels * width), np.float64)
