"""Windows that slide over spatial axes: the arguments stride, padding and dilation, and what sizes follow from them."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np

Padding = int | str | Sequence[int] | Sequence[tuple[int, int]]  # as callers give it
Pairs = tuple[tuple[int, int], ...]  # before and after, per axis


def _whole(value: object) -> int | None:
    """The value of an integer; None for anything else, bools included."""
    if isinstance(value, (bool, np.bool_, np.ndarray)) or not isinstance(value, SupportsIndex):
        return None
    return operator.index(value)


def per_axis(title: str, name: str, value: Any, axes: int, least: int = 1) -> tuple[int, ...]:
    """One whole number of at least `least` per axis, given as such or as one for all."""
    many = f" or a sequence of {axes}, one per axis" if axes > 1 else " or a sequence of one"
    expected = f"expected an int of at least {least}{many}"
    one = _whole(value)
    if one is not None:
        found: list[int | None] = [one] * axes
    elif isinstance(value, (Sequence, np.ndarray)) and not isinstance(value, (str, bytes)):
        found = [_whole(item) for item in value]
    else:
        found = [None]
    numbers = tuple(number for number in found if number is not None)
    if len(numbers) != len(found):
        raise TypeError(f"{title}: {name} is {value!r} of type {type(value).__name__}; {expected}")
    if len(numbers) != axes or min(numbers) < least:
        raise ValueError(f"{title}: {name} is {value!r}; {expected}")
    return numbers


def padding_per_axis(
    title: str,
    value: Any,
    lengths: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> Pairs:
    """Elements before and after, per axis: of an int, of one int or one pair per axis, of "valid" or "same".

    "same" makes ceil(length / stride) windows; an odd element goes behind.
    """
    axes = len(lengths)
    if isinstance(value, str):
        if value not in ("valid", "same"):
            raise ValueError(f"{title}: padding is {value!r}; expected 'valid', 'same', or numbers")
        if value == "valid":
            return ((0, 0),) * axes
        pairs = []
        for length, size, step, spread in zip(lengths, kernel, stride, dilation, strict=True):
            total = max(0, (-(-length // step) - 1) * step + (size - 1) * spread + 1 - length)
            pairs.append((total // 2, total - total // 2))
        return tuple(pairs)
    if isinstance(value, (Sequence, np.ndarray)) and len(value) == axes and not isinstance(value[0], SupportsIndex):
        pairs = []
        for item in value:
            if not isinstance(item, (Sequence, np.ndarray)) or isinstance(item, str) or len(item) != 2:
                raise TypeError(
                    f"{title}: padding is {value!r}; expected an int, one int or one pair (before, after) per axis, "
                    "'valid' or 'same'"
                )
            before, after = per_axis(title, "padding", item, 2, 0)
            pairs.append((before, after))
        return tuple(pairs)
    return tuple((number, number) for number in per_axis(title, "padding", value, axes, 0))


def window_count(
    title: str, axis: str, length: int, kernel: int, stride: int, dilation: int, padding: tuple[int, int]
) -> int:
    """How many windows fit along an axis; ValueError where not one does."""
    extent, padded = (kernel - 1) * dilation + 1, length + sum(padding)
    if extent > padded:
        raise ValueError(
            f"{title}: the kernel spans {extent} elements of the {axis} (size {kernel}, dilation {dilation}) and the "
            f"padded input has {padded} ({length} + {padding[0]} + {padding[1]}); expected a kernel that fits"
        )
    return (padded - extent) // stride + 1
