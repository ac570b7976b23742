"""The dropout family, compiled by Numba: the functions of kernels/cpu/dropout.pyx.

Random bits are drawn for some thousand elements at a time and stay in the first-level cache until they are compared.
Elements are copied beside them first, so that LLVM sees arrays that do not overlap and vectorises in place as well. The
16-bit formats are widened and rounded by NumPy, piece by piece. Rejected: comparing halves with a threshold of 16 or 32
bits (LLVM's vectors are as narrow).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from fastnn.kernels.jit.intrinsics import fmadd
from fastnn.kernels.jit.parallel import run_ranges
from fastnn.kernels.jit.philox import BLOCK_HALVES, fill

Array = npt.NDArray[Any]

_LENGTH = 1 << 11  # elements drawn at a time; a multiple of BLOCK_HALVES
_PIECE = 1 << 14  # elements of the 16-bit formats widened at a time
_OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy", "boundscheck": False}


@njit(**_OPTIONS)
def _philox(words: Any, first: Any, seed: Any, offset: Any) -> None:
    pairs = words.reshape(words.size).view(np.uint64)
    fill(pairs, first, len(words), seed, offset)


@njit(**_OPTIONS)
def _mask(kept: Any, first: Any, threshold: int, seed: Any, offset: Any) -> None:
    pairs = np.empty(2 * (_LENGTH // BLOCK_HALVES + 1), np.uint64)
    halves = pairs.view(np.uint16)
    skipped, number = np.int64(first % np.uint64(BLOCK_HALVES)), first // np.uint64(BLOCK_HALVES)
    for begin in range(0, kept.size, _LENGTH):
        n = min(_LENGTH, kept.size - begin)
        count = (skipped + n + BLOCK_HALVES - 1) // BLOCK_HALVES
        fill(pairs, number + np.uint64(begin // BLOCK_HALVES), count, seed, offset)
        for i in range(n):
            kept[begin + i] = halves[skipped + i] >= threshold


@njit(**_OPTIONS)
def _copy(to: Any, x: Any) -> None:
    for i in range(x.size):  # Numba's own assignment of slices is slower
        to[i] = x[i]


@njit(**_OPTIONS)
def _select(out: Any, x: Any, halves: Any, threshold: int, shifted: bool, scale: Any, shift: Any, dropped: Any) -> None:
    if shifted:
        for i in range(out.size):
            out[i] = fmadd(scale, x[i], shift) if halves[i] >= threshold else dropped
    else:
        for i in range(out.size):
            out[i] = scale * x[i] if halves[i] >= threshold else dropped


@njit(**_OPTIONS)
def _affine(
    x: Any,
    out: Any,
    first: Any,
    threshold: int,
    seed: Any,
    offset: Any,
    shifted: bool,
    scale: Any,
    shift: Any,
    dropped: Any,
) -> None:
    pairs = np.empty(2 * (_LENGTH // BLOCK_HALVES + 1), np.uint64)
    halves = pairs.view(np.uint16)
    work = np.empty(_LENGTH, x.dtype)
    skipped, number = np.int64(first % np.uint64(BLOCK_HALVES)), first // np.uint64(BLOCK_HALVES)
    for begin in range(0, out.size, _LENGTH):
        n = min(_LENGTH, out.size - begin)
        count = (skipped + n + BLOCK_HALVES - 1) // BLOCK_HALVES
        fill(pairs, number + np.uint64(begin // BLOCK_HALVES), count, seed, offset)
        _copy(work, x[begin : begin + n])
        _select(out[begin : begin + n], work, halves[skipped:], threshold, shifted, scale, shift, dropped)


@njit(**_OPTIONS)
def _times(out: Any, x: Any, scale: Any) -> None:
    for i in range(out.size):
        out[i] = scale * x[i]


@njit(**_OPTIONS)
def _units(x: Any, out: Any, at: int, inner: int, kept: Any, scale: Any) -> None:
    begin = 0
    while begin < x.size:
        unit = (at + begin) // inner
        end = min(x.size, (unit + 1) * inner - at)
        if kept[unit]:
            _times(out[begin:end], x[begin:end], scale)  # arrays of its own, which LLVM makes vectors of
        else:
            out[begin:end] = 0
        begin = end


def philox(words: Array, first: int, seed: int, offset: int) -> None:
    """The four words of each of the blocks first, first + 1 ... into an array of uint32 of shape (n, 4)."""
    _philox(words, *_words(first, seed, offset))


def mask(kept: Array, first: int, threshold: int, seed: int, offset: int) -> None:
    """Which elements are kept, into an array of bool."""
    flat = kept.reshape(-1)

    def share(begin: int, end: int) -> None:
        start, *stream = _words(first + begin, seed, offset)
        _mask(flat[begin:end], start, threshold, *stream)

    run_ranges(flat.size, share)


def scaled(x: Array, out: Array, first: int, threshold: int, scale: float, seed: int, offset: int) -> None:
    """out = x scale where kept, 0 elsewhere."""
    _masked(x, out, first, threshold, seed, offset, False, scale, 0.0, 0.0)


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
    _masked(x, out, first, threshold, seed, offset, True, scale, shift, dropped)


def units(x: Array, out: Array, inner: int, first: int, threshold: int, scale: float, seed: int, offset: int) -> None:
    """The same as `scaled` for units of `inner` elements that are kept or dropped as a whole; `first` counts units."""
    kept = np.empty(out.size // inner if inner else 0, np.bool_)
    mask(kept, first, threshold, seed, offset)
    _each(x, out, lambda a, b, at: _units(a, b, at, inner, kept, a.dtype.type(scale)))


def times(x: Array, out: Array, scale: float) -> None:
    """out = x scale."""
    _each(x, out, lambda a, b, at: _units(a, b, 0, b.size, _KEPT, a.dtype.type(scale)))


_KEPT = np.ones(1, np.bool_)


def _words(*numbers: int) -> tuple[np.uint64, ...]:
    return tuple(np.uint64(number % 2**64) for number in numbers)


def _masked(
    x: Array, out: Array, first: int, threshold: int, seed: int, offset: int, shifted: bool, *formula: float
) -> None:
    def piece(a: Array, b: Array, at: int) -> None:
        start, *stream = _words(first + at, seed, offset)
        _affine(a, b, start, threshold, *stream, shifted, *(a.dtype.type(number) for number in formula))

    _each(x, out, piece)


def _each(x: Array, out: Array, function: Callable[[Array, Array, int], None]) -> None:
    """function(x, out, at) on flat parts from index `at` on, of the dtype that is computed in."""
    source, target = x.reshape(-1), out.reshape(-1)

    def share(begin: int, end: int) -> None:
        if x.itemsize > 2:
            function(source[begin:end], target[begin:end], begin)
            return
        for at in range(begin, end, _PIECE):
            part = source[at : min(end, at + _PIECE)].astype(np.float32)
            result = np.empty_like(part)
            function(part, result, at)
            target[at : at + part.size] = result

    run_ranges(source.size, share)
