"""The dropout family in plain NumPy: float64, rounded once to float32 and from that to the 16-bit formats."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn import generator
from fastnn.kernels.reference.rounding import store, widen

Array = npt.NDArray[Any]


def philox(words: Array, first: int, seed: int, offset: int) -> None:
    """The four words of each of the blocks first, first + 1 ... into an array of uint32 of shape (n, 4)."""
    words[...] = generator.blocks(first, len(words), seed, offset)


def mask(kept: Array, first: int, threshold: int, seed: int, offset: int) -> None:
    """Which elements are kept, into an array of bool."""
    kept[...] = generator.kept(first, kept.size, threshold, seed, offset).reshape(kept.shape)


def scaled(x: Array, out: Array, first: int, threshold: int, scale: float, seed: int, offset: int) -> None:
    """out = x scale where kept, 0 elsewhere."""
    kept = generator.kept(first, x.size, threshold, seed, offset).reshape(x.shape)
    store(np.where(kept, _times(x, scale), 0.0), out)


def affine(
    x: Array,
    out: Array,
    first: int,
    threshold: int,
    scale: float,
    shift: float,
    dropped: float,
    seed: int,
    offset: int,
) -> None:
    """out = scale x + shift where kept, `dropped` elsewhere."""
    kept = generator.kept(first, x.size, threshold, seed, offset).reshape(x.shape)
    store(np.where(kept, _times(x, scale) + shift, dropped), out)


def units(x: Array, out: Array, inner: int, first: int, threshold: int, scale: float, seed: int, offset: int) -> None:
    """The same as `scaled` for units of `inner` elements that are kept or dropped as a whole; `first` counts units."""
    kept = generator.kept(first, x.size // inner if inner else 0, threshold, seed, offset)
    store(np.where(np.repeat(kept, inner).reshape(x.shape), _times(x, scale), 0.0), out)


def times(x: Array, out: Array, scale: float) -> None:
    """out = x scale."""
    store(_times(x, scale), out)


def _times(x: Array, scale: float) -> Array:
    with np.errstate(all="ignore"):
        return widen(x) * scale
