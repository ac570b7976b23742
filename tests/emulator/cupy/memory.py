"""The memory of the stand-in's devices: NumPy's, between zones that no kernel may write to."""

from __future__ import annotations

import math
import mmap
from typing import Any

import numpy as np
import numpy.typing as npt

ZONE = 256  # bytes before and behind, and the alignment, as cudaMalloc's
BLANK = 0xFF  # every float of these bytes is NaN: what is read from outside, or before it is written, shows
SPARSE = 1 << 30  # from here on memory is not touched before it is used


class Allocation:
    """A piece of a device's memory."""

    def __init__(self, size: int, device: int) -> None:
        self.size, self.device = size, device
        room = size + 3 * ZONE
        sparse = size >= SPARSE
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
        self.raw = np.frombuffer(mmap.mmap(-1, room, flags=flags), np.uint8) if sparse else np.empty(room, np.uint8)
        self.start = ZONE + -self.raw.ctypes.data % ZONE
        self.zones = self.raw[self.start - ZONE : self.start], self.raw[self.start + size :][:ZONE]
        for part in self.zones if sparse else (self.raw,):
            part[:] = BLANK

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any], order: str) -> npt.NDArray[Any]:
        """The memory as an array."""
        values = self.raw[self.start : self.start + math.prod(shape) * dtype.itemsize].view(dtype)
        return values.reshape(shape, order="F" if order == "F" else "C")

    def check(self) -> None:
        """Has anything been written outside?"""
        for zone, where in zip(self.zones, ("before", "behind"), strict=True):
            if not np.all(zone == BLANK):
                raise AssertionError(f"a kernel wrote {where} an array of {self.size} bytes")
