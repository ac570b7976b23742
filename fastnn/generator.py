"""Philox4x32-10 in plain NumPy, and what a probability of dropping is rounded to.

The generator of Salmon, Moraes, Dror and Shaw (2011, "Parallel random numbers: as easy as 1, 2, 3"), numbered as in
kernels/include/philox.hpp: the key is the seed; words 0 and 1 of the counter are the number of the block, words 2 and 3
the offset. The element i of an array has the 16-bit half i % 8 of block i // 8, and is kept where that is at least
round(65536 p).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

BLOCK_HALVES = 8  # of 16 random bits in a block, so also the elements that it serves
GRID = 1 << 16  # probabilities are multiples of 1 / GRID

_ROUNDS = 10
_MASK = np.uint64(0xFFFFFFFF)
_HIGH = np.uint64(32)
_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = 0x9E3779B9, 0xBB67AE85


def blocks(first: int, count: int, seed: int, offset: int) -> npt.NDArray[np.uint32]:
    """The four words of each of the blocks first, first + 1 ... (mod 2^64), of shape (count, 4)."""
    number = np.arange(count, dtype=np.uint64) + np.uint64(first)
    a, b = number & _MASK, number >> _HIGH
    c, d = (np.full(count, word, np.uint64) for word in (offset & 0xFFFFFFFF, offset >> 32))
    low, high = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(_ROUNDS):
        p, q = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        a, b = (q >> _HIGH) ^ b ^ np.uint64(low), q & _MASK
        c, d = (p >> _HIGH) ^ d ^ np.uint64(high), p & _MASK
        low, high = (low + _WEYL[0]) & 0xFFFFFFFF, (high + _WEYL[1]) & 0xFFFFFFFF
    return np.stack([a, b, c, d], axis=-1).astype(np.uint32)


def halves(first: int, count: int, seed: int, offset: int) -> npt.NDArray[np.uint16]:
    """The 16 random bits of each of the elements first, first + 1 ..."""
    skipped = first % BLOCK_HALVES
    words = blocks(first // BLOCK_HALVES, -(-(skipped + count) // BLOCK_HALVES), seed, offset).reshape(-1, 1)
    return (words >> np.array([0, 16], np.uint32)).astype(np.uint16).ravel()[skipped : skipped + count]


def kept(first: int, count: int, threshold: int, seed: int, offset: int) -> npt.NDArray[np.bool_]:
    """Which of the elements first, first + 1 ... are kept."""
    return np.asarray(halves(first, count, seed, offset) >= threshold)


def threshold(p: float) -> int:
    """What an element's 16 random bits must reach for it to be kept, if it is to be dropped with probability `p`."""
    return round(p * GRID)


def keep_probability(p: float, number: Any = float) -> Any:
    """1 - p after rounding to the grid, as a number of type `number`."""
    return number(GRID - threshold(p)) / number(GRID)
