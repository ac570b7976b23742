"""Windows that slide over spatial axes: the arguments kernel_size, stride, padding and dilation, one for each axis."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

Sizes = int | Sequence[int]  # one for all spatial axes, or one for each
Numbers = Sizes | Sequence[tuple[int, int]]  # or a pair (before, after) for each
Padding = Numbers | str  # as callers of convolutions give it
Pairs = tuple[tuple[int, int], ...]  # before and after, per axis

LONGEST = 2**40  # a padded axis: far beyond any memory, and products of two fit 64 bits with room to spare


def _whole(value: Any) -> int | None:
    """The value of an integer; None for anything else, bools included."""
    if type(value) is int:
        return value
    if isinstance(value, (bool, np.bool_)) or (isinstance(value, np.ndarray) and value.dtype.kind not in "iu"):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def _items(value: Any) -> list[Any] | None:
    """What a sequence consists of; None for anything else."""
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return list(value)
    return list(value) if isinstance(value, np.ndarray) and value.ndim else None


def per_axis(title: str, name: str, value: Any, axes: int, least: int = 1, most: int | None = None) -> tuple[int, ...]:
    """One whole number within the bounds per axis, given as such or as one for all."""
    one = _whole(value)
    if one is not None:
        numbers: tuple[int | None, ...] = (one,) * axes
    else:
        items = _items(value)
        numbers = (None,) if items is None else tuple(map(_whole, items))
    found = tuple([number for number in numbers if number is not None])
    within_bounds = all([least <= number and (most is None or number <= most) for number in found])
    if len(found) == axes == len(numbers) and within_bounds:
        return found
    many = f" or a sequence of {axes}, one per axis" if axes > 1 else " or a sequence of one"
    expected = f"expected an int {f'of at least {least}' if most is None else f'from {least} to {most}'}{many}"
    if None in numbers:
        raise TypeError(f"{title}: {name} is {value!r} of type {type(value).__name__}; {expected}")
    raise ValueError(f"{title}: {name} is {value!r}; {expected}")


def pairs_per_axis(title: str, name: str, value: Any, axes: int, most: int | None = None, words: str = "") -> Pairs:
    """Elements of padding before and after, per axis: of an int, or of one int or one pair per axis.

    `words` is what else the argument may be, for the error.
    """
    items = _items(value)
    if items is None or len(items) != axes or None not in (wholes := list(map(_whole, items))):
        return tuple([(number, number) for number in per_axis(title, name, value, axes, 0, most)])
    pairs = []
    for item, number in zip(items, wholes, strict=True):
        pair = _items(item) if number is None else [number, number]
        if pair is None or len(pair) != 2:
            raise TypeError(
                f"{title}: {name} is {value!r}; expected an int, one int or one pair (before, after) per axis{words}"
            )
        before, after = per_axis(title, name, pair, 2, 0, most)
        pairs.append((before, after))
    return tuple(pairs)


def padding_per_axis(
    title: str,
    value: Any,
    lengths: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> Pairs:
    """The same, or of "valid" or "same".

    "same" makes ceil(length / stride) windows; an odd element goes behind.
    """
    if not isinstance(value, str):
        return pairs_per_axis(title, "padding", value, len(lengths), words=", 'valid' or 'same'")
    if value not in ("valid", "same"):
        raise ValueError(f"{title}: padding is {value!r}; expected 'valid', 'same', or numbers")
    if value == "valid":
        return ((0, 0),) * len(lengths)
    pairs = []
    for length, size, step, spread in zip(lengths, kernel, stride, dilation, strict=True):
        total = max(0, (-(-length // step) - 1) * step + (size - 1) * spread + 1 - length)
        pairs.append((total // 2, total - total // 2))
    return tuple(pairs)


def window_count(
    title: str, axis: str, length: int, kernel: int, stride: int, dilation: int, padding: tuple[int, int]
) -> int:
    """How many windows fit along an axis; ValueError where not one does."""
    extent, padded = (kernel - 1) * dilation + 1, length + padding[0] + padding[1]
    if extent > padded:
        raise ValueError(
            f"{title}: the kernel spans {extent} elements of the {axis} (size {kernel}, dilation {dilation}) and the "
            f"padded input has {padded} ({length} + {padding[0]} + {padding[1]}); expected a kernel that fits"
        )
    if padded > LONGEST:
        raise ValueError(f"{title}: padding is {padding} along the {axis}; expected a padded input of at most 2^40")
    return (padded - extent) // stride + 1


def within(padded: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Stride and dilation that do the same and are no larger than the padded axis."""
    return min(stride, padded), dilation if kernel > 1 else 1
