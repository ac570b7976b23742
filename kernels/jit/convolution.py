"""Convolutions for the backend whose loops Numba compiles: the functions of kernels/cpu/convolution.pyx.

What every position sees is laid out as columns of a matrix, some MiB of them at a time, for NumPy's BLAS: products of
matrices are not what Numba's compiler is good at. The 16-bit formats are widened and rounded by NumPy.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from fastnn.kernels.jit import forward as activate
from fastnn.kernels.jit.parallel import run_ranges

Array = npt.NDArray[Any]
Pair = tuple[int, int]

_OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy", "boundscheck": False}
_COLUMNS = 1 << 20  # numbers of a block of columns


class _Geometry(NamedTuple):
    """A convolution of x with weight to y, arrays given by their shapes."""

    x: tuple[int, ...]
    weight: tuple[int, ...]
    y: tuple[int, ...]
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int

    def padded(self, dtype: npt.DTypeLike) -> tuple[Array, Array]:
        """Zeros that hold x and all that windows see around it; and the part that is x."""
        sizes = [
            max((self.y[2 + i] - 1) * self.stride[i] + (self.weight[2 + i] - 1) * self.dilation[i] + 1, end)
            for i, end in enumerate((self.padding[0] + self.x[2], self.padding[1] + self.x[3]))
        ]
        zeros = np.zeros((*self.x[:2], *sizes), dtype)
        (top, left), (height, width) = self.padding, self.x[2:]
        return zeros, zeros[:, :, top : top + height, left : left + width]

    def blocks(self) -> Iterator[tuple[slice, slice]]:
        """Images, and rows of y: all rows of several images, or some of one."""
        images, _, height, width = self.y
        row = max(1, self.x[1] * self.weight[2] * self.weight[3] * width)
        rows = min(height, max(1, _COLUMNS // row))
        together = max(1, _COLUMNS // (row * rows)) if rows == height else 1
        for image in range(0, images, together):
            for first in range(0, height, rows):
                yield slice(image, min(images, image + together)), slice(first, min(height, first + rows))

    def windows(self, padded: Array, images: slice, rows: slice) -> Iterator[tuple[int, int, Array]]:
        """For every tap what the positions of a block see, as (groups, inner, images, rows, cols)."""
        part = padded[images]
        part = part.reshape(len(part), self.groups, self.weight[1], *part.shape[2:]).transpose(1, 2, 0, 3, 4)
        count, width = rows.stop - rows.start, self.y[3]
        for k in range(self.weight[2]):
            top = k * self.dilation[0] + rows.start * self.stride[0]
            down = slice(top, top + (count - 1) * self.stride[0] + 1, self.stride[0])
            for m in range(self.weight[3]):
                left = m * self.dilation[1]
                yield k, m, part[..., down, left : left + (width - 1) * self.stride[1] + 1 : self.stride[1]]

    def columns(self, padded: Array, images: slice, rows: slice) -> Array:
        """The same as one matrix a group, a row for each weight of an output."""
        positions = (images.stop - images.start, rows.stop - rows.start, self.y[3])
        made = np.empty((self.groups, *self.weight[1:], *positions), padded.dtype)
        for k, m, window in self.windows(padded, images, rows):
            made[:, :, k, m] = window
        return made.reshape(self.groups, self.weight[1] * self.weight[2] * self.weight[3], -1)

    def part(self, y: Array, images: slice, rows: slice) -> Array:
        """A block of y as a view of (groups, outer, images, rows, cols)."""
        part = y[images, :, rows]
        return part.reshape(len(part), self.groups, -1, *part.shape[2:]).transpose(1, 2, 0, 3, 4)


@njit(**_OPTIONS)
def _bias_gradient(dy: Any, dbias: Any, first: int, last: int) -> None:
    for o in range(first, last):
        total = 0.0
        for n in range(dy.shape[0]):
            for i in range(dy.shape[2]):
                for j in range(dy.shape[3]):
                    total += dy[n, o, i, j]
        dbias[o] = total


def forward(
    x: Array,
    weight: Array,
    bias: Array | None,
    y: Array,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    activation: str | None,
    params: tuple[float, ...],
    before: Array | None,
) -> None:
    """y = activation(z), z = the convolution of x with weight, + bias; padding is that before the first row and column.

    `before` receives z, unless it is None.
    """
    geometry = _Geometry(x.shape, weight.shape, y.shape, stride, padding, dilation, groups)
    result, factor = _computed(y, empty=True), _computed(weight).reshape(groups, weight.shape[0] // groups, -1)
    padded, inside = geometry.padded(result.dtype)
    inside[...] = x
    with np.errstate(all="ignore"):
        for block in geometry.blocks():
            to = geometry.part(result, *block)
            product = np.matmul(factor, geometry.columns(padded, *block)).reshape(to.shape)
            np.add(product, 0 if bias is None else bias.reshape(groups, -1, 1, 1, 1), out=to)
    if before is not None:
        _store(before, result)
    if activation is not None:
        activate(activation, result, *params, out=result)
    _store(y, result)


def input_gradient(
    dy: Array, weight: Array, dx: Array, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> None:
    """dx = the gradient of the convolution's sum over dy by its input."""
    around = tuple((weight.shape[2 + i] - 1) * dilation[i] - padding[i] for i in range(2))
    if weight.shape[0] == groups and stride == (1, 1) and min(around) >= 0:
        # A convolution with turned kernels: sums of one product are none for the BLAS. Slower where there are more.
        parts = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:]).transpose(0, 2, 1, 3, 4)
        turned = np.ascontiguousarray(parts[..., ::-1, ::-1]).reshape(dx.shape[1], parts.shape[2], *weight.shape[2:])
        forward(dy, turned, None, dx, stride, (around[0], around[1]), dilation, groups, None, (), None)
        return
    geometry = _Geometry(dx.shape, weight.shape, dy.shape, stride, padding, dilation, groups)
    slopes, factor = _computed(dy), _computed(weight).reshape(groups, weight.shape[0] // groups, -1)
    padded, result = geometry.padded(slopes.dtype)
    with np.errstate(all="ignore"):
        for block in geometry.blocks():
            part = geometry.part(slopes, *block)
            columns = np.matmul(factor.transpose(0, 2, 1), part.reshape(*part.shape[:2], -1))
            terms = columns.reshape(groups, *weight.shape[1:], *part.shape[2:])
            for k, m, window in geometry.windows(padded, *block):
                np.add(window, terms[:, :, k, m], out=window)
    _store(dx, result)


def weight_gradient(
    dy: Array, x: Array, dweight: Array, stride: Pair, padding: Pair, dilation: Pair, groups: int, accumulate: bool
) -> None:
    """dweight = the gradient by the weights, which is added to what is there where `accumulate`."""
    geometry = _Geometry(x.shape, dweight.shape, dy.shape, stride, padding, dilation, groups)
    slopes = _computed(dy)
    padded, inside = geometry.padded(slopes.dtype)
    inside[...] = x
    total = np.zeros((groups, dweight.shape[0] // groups, dweight[0].size))
    with np.errstate(all="ignore"):
        for block in geometry.blocks():
            part = geometry.part(slopes, *block)
            total += np.matmul(part.reshape(*part.shape[:2], -1), geometry.columns(padded, *block).transpose(0, 2, 1))
    result = total.reshape(dweight.shape)
    _store(dweight, result, accumulate)


def bias_gradient(dy: Array, dbias: Array, accumulate: bool) -> None:
    """dbias = the sum of dy over images and positions, in the dtype computed in; `accumulate` as for the weights."""
    result = np.empty_like(dbias)
    _by_planes(_bias_gradient, (_computed(dy), result), dy.shape[1], dy.size)
    _store(dbias, result, accumulate)


def _by_planes(kernel: Any, arguments: tuple[Any, ...], planes: int, work: int) -> None:
    """Run a kernel over all planes, in ranges where it is much work."""

    def planes_of(begin: int, end: int) -> None:
        kernel(*arguments, -(-begin * planes // work), -(-end * planes // work))

    if work:
        run_ranges(work, planes_of)
    else:
        kernel(*arguments, 0, planes)


def _computed(array: Array, empty: bool = False) -> Array:
    """The array in the dtype computed in."""
    if array.dtype in (np.float32, np.float64):
        return array
    return np.empty(array.shape, np.float32) if empty else array.astype(np.float32)


def _store(to: Array, result: Array, accumulate: bool = False) -> None:
    if result is not to:
        with np.errstate(all="ignore"):
            to[...] = _computed(to) + result if accumulate else result
