"""The dropout family: which elements are kept is drawn anew by every kernel. Source: dropout.cu."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels.cuda.compiler import Family, blocks_for, cupy, launch, launch_elements, scalar

Array = Any

FAMILY = Family(
    "dropout",
    "dropout_scaled<{T}>",
    "dropout_affine<{T}>",
    "dropout_units<{T}>",
    "dropout_times<{T}>",
    "dropout_mask",
    "philox_blocks",
)
_BLOCK = 8  # elements that a block of random bits serves


def philox(words: Array, first: int, seed: int, offset: int) -> None:
    """The four words of each of the blocks first, first + 1 ... into an array of uint32 of shape (n, 4)."""
    kernel = FAMILY.kernel("philox_blocks", np.float32)
    launch(kernel, blocks_for(len(words)), words, len(words), *map(np.uint64, (first, seed, offset)))


def mask(kept: Array, first: int, threshold: int, seed: int, offset: int) -> None:
    """Which elements are kept, into an array of bool."""
    kernel = FAMILY.kernel("dropout_mask", np.float32)
    numbers = (np.uint64(first), threshold, np.uint64(seed), np.uint64(offset))
    launch(kernel, _blocks(kept.size), kept.view(np.uint8), kept.size, *numbers)


def scaled(x: Array, out: Array, first: int, threshold: int, scale: float, seed: int, offset: int) -> None:
    """out = x scale where kept, 0 elsewhere."""
    numbers = (np.uint64(first), threshold, scalar(scale, x.dtype), np.uint64(seed), np.uint64(offset))
    launch(FAMILY.kernel("dropout_scaled<{T}>", x.dtype), _blocks(x.size), x, out, x.size, *numbers)


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
    formula = (scalar(number, x.dtype) for number in (scale, shift, dropped))
    numbers = (np.uint64(first), threshold, *formula, np.uint64(seed), np.uint64(offset))
    launch(FAMILY.kernel("dropout_affine<{T}>", x.dtype), _blocks(x.size), x, out, x.size, *numbers)


def units(x: Array, out: Array, inner: int, first: int, threshold: int, scale: float, seed: int, offset: int) -> None:
    """The same as `scaled` for units of `inner` elements that are kept or dropped as a whole; `first` counts units."""
    if x.size == 0:
        return
    kept = cupy().empty(x.size // inner, np.bool_)  # a byte a unit: drawing for every element would cost more
    mask(kept, first, threshold, seed, offset)
    kernel, numbers = FAMILY.kernel("dropout_units<{T}>", x.dtype), (x.size, inner, scalar(scale, x.dtype))
    launch_elements(kernel, x.size, x.itemsize, x, out, kept.view(np.uint8), *numbers)


def times(x: Array, out: Array, scale: float) -> None:
    """out = x scale."""
    kernel = FAMILY.kernel("dropout_times<{T}>", x.dtype)
    launch_elements(kernel, x.size, x.itemsize, x, out, x.size, scalar(scale, x.dtype))


def _blocks(elements: int) -> int:
    return blocks_for(-(-elements // _BLOCK))
