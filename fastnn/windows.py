"""Where the windows of a pooling lie, one axis at a time."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastnn.sliding import Pairs, pairs_per_axis, per_axis

Counts = tuple[npt.NDArray[np.float64], ...]
Bounds = tuple[npt.NDArray[np.int64], ...]
Axes = npt.NDArray[np.int64]  # what kernels take of three axes: a row for each


class Axis(NamedTuple):
    """One spatial axis: element k of window o is number o * stride - before + k * dilation, padding if outside."""

    inputs: int
    out: int
    kernel: int
    stride: int
    before: int
    dilation: int
    after: int

    def first(self) -> npt.NDArray[np.int64]:
        """Where each window begins."""
        found: npt.NDArray[np.int64] = np.arange(self.out, dtype=np.int64) * self.stride - self.before
        return found

    def covered(self, before: int = 0, after: int = 0) -> npt.NDArray[np.int64]:
        """How many elements of each window lie in the input and so much beside it."""
        first = self.first()
        begin = -((first + before) // self.dilation)  # the first k that does
        end = -((first - self.inputs - after) // self.dilation)
        found: npt.NDArray[np.int64] = np.maximum(np.minimum(end, self.kernel) - np.clip(begin, 0, self.kernel), 0)
        return found


ALONE = Axis(1, 1, 1, 1, 0, 1, 0)  # a spatial axis that the array does not have


MOST = 2**31 - 1  # for any one number, so that products of two are far from the end of 64 bits


def sizes(title: str, name: str, value: Any, axes: int, least: int = 1) -> tuple[int, ...]:
    """One whole number for each axis."""
    return per_axis(title, name, value, axes, least, MOST)


def pairs(title: str, name: str, value: Any, axes: int) -> Pairs:
    """The padding before and after, for each axis."""
    return pairs_per_axis(title, name, value, axes, MOST)


def windows(
    title: str,
    spatial: tuple[int, ...],
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    *,
    padding_counts: bool = False,
) -> tuple[Axis, ...]:
    """The axes of a pooling of arrays with these spatial lengths; stride None is the kernel's size.

    Every window holds an element of the input, unless padding counts as such.
    """
    dims = len(spatial)
    kernels = sizes(title, "kernel_size", kernel_size, dims)
    strides = kernels if stride is None else sizes(title, "stride", stride, dims)
    paddings = pairs(title, "padding", padding, dims)
    dilations = sizes(title, "dilation", dilation, dims)
    axes = []
    for length, kernel, stride, (before, after), dilation in zip(
        spatial, kernels, strides, paddings, dilations, strict=True
    ):
        span = (kernel - 1) * dilation + 1
        steps, rest = divmod(length + before + after - span, stride)
        out = steps + 1
        if ceil_mode:
            out += rest > 0
            out -= (out - 1) * stride >= length + before  # which would begin in the padding behind the input
        if out < 1:
            wide = f"{kernel}" if dilation == 1 else f"{kernel}, which with dilation {dilation} spans {span} elements"
            raise ValueError(
                f"{title}: kernel_size is {wide}, for an axis of length {length} with padding {(before, after)}; "
                f"expected at most the padded length, {length + before + after}"
            )
        axis = Axis(length, out, kernel, stride, before, dilation, after)
        if not padding_counts and not (axis.covered() > 0).all():
            raise ValueError(
                f"{title}: padding is {(before, after)} for an axis of length {length}, so that window "
                f"{int(np.argmin(axis.covered() > 0))} of kernel_size {kernel}, stride {stride} and dilation "
                f"{dilation} holds padding only; expected every window to hold an element"
            )
        axes.append(axis)
    return tuple(axes)


def three(axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
    """Depth, height and width: axes that are not there are of length 1."""
    return (ALONE,) * (3 - len(axes)) + axes


def for_kernels(axes: tuple[Axis, ...]) -> Axes:
    """The numbers that kernels take."""
    return _frozen(np.array([axis[:6] for axis in three(axes)], np.int64))


def counts(axes: tuple[Axis, ...], include_padding: bool) -> Counts:
    """How many elements of each window an average counts, axis by axis: the product is the divisor.

    16 ones follow in memory, for vectors that reach beyond the last window.
    """
    found = []
    for axis in three(axes):
        margins = (axis.before, axis.after) if include_padding else (0, 0)
        padded = np.ones(axis.out + 16)
        padded[: axis.out] = axis.covered(*margins)
        found.append(_frozen(padded)[: axis.out])
    return tuple(found)


def _frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The array, which is shared by all calls from now on."""
    array.flags.writeable = False
    return array


def adaptive(spatial: tuple[int, ...], output: tuple[int, ...]) -> tuple[Bounds, Bounds]:
    """Where the regions of adaptive pooling start and stop, axis by axis: floor(i in / out), ceil((i + 1) in / out)."""
    starts: list[npt.NDArray[np.int64]] = []
    stops: list[npt.NDArray[np.int64]] = []
    for length, out in zip((1,) * (3 - len(spatial)) + spatial, (1,) * (3 - len(output)) + output, strict=True):
        i = np.arange(out, dtype=np.int64)
        for bounds, found in ((starts, i * length // out), (stops, -(-(i + 1) * length // out))):
            bounds.append(_frozen(found[None]))
    return tuple(starts), tuple(stops)
