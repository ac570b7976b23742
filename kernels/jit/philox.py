"""Philox4x32-10 as Numba compiles it: include/philox.hpp again.

Words are computed in 64-bit numbers of which the low 32 bits count, as on x86: the product of two low halves is one
instruction, and LLVM drops the masks before it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

BLOCK_HALVES = 8  # of 16 random bits in a block

_FIRST, _SECOND = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL_LOW, _WEYL_HIGH = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_MASK, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


@njit(nogil=True, error_model="numpy", boundscheck=False)
def fill(pairs: Any, number: Any, count: int, seed: Any, offset: Any) -> None:
    """The words of the blocks number, number + 1 ..., two in each of pairs[: 2 * count]. All but count are uint64."""
    for i in range(count):
        block = number + np.uint64(i)
        a, b = block & _MASK, block >> _HALF
        c, d = offset & _MASK, offset >> _HALF
        low, high = seed & _MASK, seed >> _HALF
        for _ in range(10):
            p, q = a * _FIRST, c * _SECOND
            a, b = (q >> _HALF) ^ b ^ low, q & _MASK
            c, d = (p >> _HALF) ^ d ^ high, p & _MASK
            low, high = (low + _WEYL_LOW) & _MASK, (high + _WEYL_HIGH) & _MASK
        pairs[2 * i] = a | (b << _HALF)
        pairs[2 * i + 1] = c | (d << _HALF)
