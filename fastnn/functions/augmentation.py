"""The public functions of the family `augmentation`."""

from __future__ import annotations

from sys import modules
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from fastnn.arguments import (
    Array,
    check_apart,
    check_out,
    checked_word,
    flag,
    parameter_dtype,
    plain,
    real_array,
    real_number,
    receiver,
    stored,
)
from fastnn.arrays import beside, namespace, on_device, together
from fastnn.dispatch import implementation
from fastnn.function import public
from fastnn.functions.dropout import explained
from fastnn.generator import blocks
from fastnn.table.augmentation import PLACES, ROWS, boxes, places, symmetric_beta

__all__ = [row.name for row in ROWS]

_ROW = {row.name: row for row in ROWS}


@explained
@public(_ROW["cutout"])
def cutout(
    x: npt.ArrayLike,
    size: SupportsIndex | tuple[SupportsIndex, SupportsIndex],
    *,
    seed: SupportsIndex,
    offset: SupportsIndex = 0,
    fill: float = 0.0,
    start: SupportsIndex = 0,
    out: Array | None = None,
) -> Array:
    title = "cutout"
    sides = _sides(title, size)
    key, stream = checked_word(title, "seed", seed), checked_word(title, "offset", offset)
    first = checked_word(title, "start", start, 63)
    value = real_number(title, "fill", fill, infinite=True)
    if "cupy" in modules:
        together(title, x=x, out=out)
    array = real_array(title, "x", x)
    if array.ndim != 4:
        raise ValueError(f"{title}: x has shape {array.shape}; expected (N, C, H, W)")
    check_out(title, out, array.shape, array.dtype, {"x": array})
    y = receiver(out, array.shape, array.dtype, array)
    height, width = array.shape[2:]
    words = blocks(first, len(array), key, stream)
    with np.errstate(over="ignore"):
        element = np.array(value).astype(array.dtype)
    where = boxes(words, height, width, sides)
    implementation("augmentation", array).cutout(plain(array), y, where, element)
    return stored(y, out)


def _sides(title: str, size: Any) -> tuple[int, int]:
    values = size if isinstance(size, (tuple, list)) else (size, size)
    sides = [checked_word(title, "size", value, 63) for value in values]
    if len(sides) != 2 or min(sides) < 1:
        raise ValueError(f"{title}: size is {size!r}; expected an int of at least 1, or a pair of them")
    return min(sides[0], 2**31), min(sides[1], 2**31)  # no image is larger


@explained
@public(_ROW["mixup"])
def mixup(
    x: npt.ArrayLike,
    labels: npt.ArrayLike,
    alpha: float = 1.0,
    *,
    seed: SupportsIndex,
    offset: SupportsIndex = 0,
    classes: SupportsIndex | None = None,
    per_sample: bool = False,
    out: Array | None = None,
) -> tuple[Array, Array, Any, npt.NDArray[np.int64]]:
    title = "mixup"
    shape = real_number(title, "alpha", alpha, low=0)
    each_its_own = flag(title, "per_sample", per_sample)
    key, stream = checked_word(title, "seed", seed), checked_word(title, "offset", offset)
    if "cupy" in modules:
        together(title, x=x, labels=labels, out=out)
    array = real_array(title, "x", x)
    if array.ndim == 0:
        raise ValueError(f"{title}: x has shape (); expected (N, ...)")
    dtype = parameter_dtype(array.dtype)
    soft = _soft_labels(title, labels, classes, len(array), dtype)
    check_out(title, out, array.shape, array.dtype, {"x": array, "labels": soft})
    check_apart(title, out, {"x": array, "labels": soft})
    count = len(array)
    lam = symmetric_beta(blocks(0, count if each_its_own else 1, key, stream), shape)
    permutation = places(blocks(PLACES, count, key, stream))
    y = receiver(out, array.shape, array.dtype, array)
    blended = namespace(array).empty(soft.shape, soft.dtype)
    kernels, order = implementation("augmentation", array), beside(array, permutation)
    for each, result in ((array, y), (soft, blended)):
        weights = np.broadcast_to(lam.astype(parameter_dtype(each.dtype)), count)
        kernels.mix(plain(each), order, beside(array, np.ascontiguousarray(weights)), result)
    rounded = lam.astype(dtype)
    return stored(y, out), blended, beside(array, rounded) if each_its_own else rounded[0], order


def _soft_labels(title: str, labels: object, classes: object, count: int, dtype: np.dtype[Any]) -> Array:
    """Labels as an array of shape (N, K): soft ones as they are, integer ones as rows of 0 and 1."""
    array = real_array(title, "labels", labels)
    if array.ndim not in (1, 2) or len(array) != count:
        raise ValueError(
            f"{title}: labels has shape {array.shape}; expected ({count},) of ints, or ({count}, K) of soft labels"
        )
    if array.ndim == 2:
        if classes is not None and checked_word(title, "classes", classes) != array.shape[1]:
            raise ValueError(
                f"{title}: classes is {classes!r}, and labels has shape {array.shape}; expected no classes"
            )
        return array
    numbers: Any = labels if on_device(labels) else np.asarray(labels)
    if numbers.dtype.kind not in "iu" and count:
        raise TypeError(f"{title}: labels has dtype {numbers.dtype} and one axis; expected ints, or soft labels (N, K)")
    if classes is None:
        raise TypeError(f"{title}: labels are ints, and classes is not given; expected the number of classes")
    limit = checked_word(title, "classes", classes, 31)
    if on_device(numbers):  # whose numbers are not read back: a label that is no class gives a row of zeros
        cupy = namespace(numbers)
        return (numbers[:, None] == cupy.arange(limit)).astype(dtype)  # type: ignore[no-any-return]
    if count and not (int(numbers.min()) >= 0 and int(numbers.max()) < limit):
        wrong = numbers[(numbers < 0) | (numbers >= limit)][0]
        raise ValueError(f"{title}: labels has {wrong} in it; expected ints from 0 to classes - 1 = {limit - 1}")
    soft = np.zeros((count, limit), dtype)
    soft[np.arange(count), numbers.astype(np.int64)] = 1
    return soft
