"""Convolutions, compiled by Numba: the functions of kernels/cpu/convolution.pyx.

Plane by plane: a plane of results is summed up in double, one weight after the other along rows that LLVM vectorises,
and rounded once. The 16-bit formats are widened and rounded by NumPy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from fastnn.kernels.jit import forward as activate
from fastnn.kernels.jit.parallel import run_ranges

Array = npt.NDArray[Any]
Pair = tuple[int, int]

_OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy", "boundscheck": False}


@njit(**_OPTIONS)
def _inside(first: int, step: int, length: int, count: int) -> tuple[int, int]:
    """The range of k in [0, count) for which first + k step is in [0, length)."""
    begin = 0 if first >= 0 else (-first + step - 1) // step
    end = 0 if first >= length else (length - first + step - 1) // step
    return min(begin, count), min(end, count)


@njit(**_OPTIONS)
def _forward(
    x: Any,
    weight: Any,
    bias: Any,
    y: Any,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    first: int,
    last: int,
) -> None:
    outputs, inner = weight.shape[0], weight.shape[1]
    height, width = y.shape[2], y.shape[3]
    total = np.empty((height, width), np.float64)
    for plane in range(first, last):
        n, o = plane // outputs, plane % outputs
        total[:] = 0.0
        for c in range(inner):
            source = x[n, o // (outputs // groups) * inner + c]
            for k in range(weight.shape[2]):
                top = k * dilation[0] - padding[0]
                row_begin, row_end = _inside(top, stride[0], x.shape[2], height)
                for m in range(weight.shape[3]):
                    w, left = np.float64(weight[o, c, k, m]), m * dilation[1] - padding[1]
                    begin, end = _inside(left, stride[1], x.shape[3], width)
                    for i in range(row_begin, row_end):
                        row, sums = source[top + i * stride[0]], total[i]
                        if stride[1] == 1:
                            for j in range(begin, end):
                                sums[j] += w * row[left + j]
                        else:
                            for j in range(begin, end):
                                sums[j] += w * row[left + j * stride[1]]
        for i in range(height):
            for j in range(width):
                y[n, o, i, j] = total[i, j] + bias[o]


@njit(**_OPTIONS)
def _input_gradient(
    dy: Any, weight: Any, dx: Any, stride: Pair, padding: Pair, dilation: Pair, groups: int, first: int, last: int
) -> None:
    inner, outer = weight.shape[1], weight.shape[0] // groups
    height, width = dx.shape[2], dx.shape[3]
    total = np.empty((height, width), np.float64)
    for plane in range(first, last):
        n, c = plane // dx.shape[1], plane % dx.shape[1]
        total[:] = 0.0
        for o in range(c // inner * outer, (c // inner + 1) * outer):
            source = dy[n, o]
            for k in range(weight.shape[2]):
                top = k * dilation[0] - padding[0]
                row_begin, row_end = _inside(top, stride[0], height, dy.shape[2])
                for m in range(weight.shape[3]):
                    w, left = np.float64(weight[o, c % inner, k, m]), m * dilation[1] - padding[1]
                    begin, end = _inside(left, stride[1], width, dy.shape[3])
                    for i in range(row_begin, row_end):
                        row, sums = source[i], total[top + i * stride[0]]
                        if stride[1] == 1:
                            for j in range(begin, end):
                                sums[left + j] += w * row[j]
                        else:
                            for j in range(begin, end):
                                sums[left + j * stride[1]] += w * row[j]
        dx[n, c] = total


@njit(**_OPTIONS)
def _weight_gradient(
    dy: Any, x: Any, dweight: Any, stride: Pair, padding: Pair, dilation: Pair, groups: int, first: int, last: int
) -> None:
    outputs, inner = dweight.shape[0], dweight.shape[1]
    for plane in range(first, last):
        o, c = plane // inner, plane % inner
        for k in range(dweight.shape[2]):
            top = k * dilation[0] - padding[0]
            row_begin, row_end = _inside(top, stride[0], x.shape[2], dy.shape[2])
            for m in range(dweight.shape[3]):
                left = m * dilation[1] - padding[1]
                begin, end = _inside(left, stride[1], x.shape[3], dy.shape[3])
                total = 0.0
                for n in range(x.shape[0]):
                    source = x[n, o // (outputs // groups) * inner + c]
                    for i in range(row_begin, row_end):
                        row, slopes = source[top + i * stride[0]], dy[n, o, i]
                        for j in range(begin, end):
                            total += np.float64(slopes[j]) * row[left + j * stride[1]]
                dweight[o, c, k, m] = total


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
    result = _computed(y, empty=True)
    offset = np.zeros(weight.shape[0], result.dtype) if bias is None else bias
    arguments = (_computed(x), _computed(weight), offset, result, stride, padding, dilation, groups)
    _by_planes(_forward, arguments, y.shape[0] * y.shape[1], _work(weight, y))
    if before is not None:
        _store(before, result)
    if activation is not None:
        activate(activation, result, *params, out=result)
    _store(y, result)


def input_gradient(
    dy: Array, weight: Array, dx: Array, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> None:
    """dx = the gradient of the convolution's sum over dy by its input."""
    result = _computed(dx, empty=True)
    arguments = (_computed(dy), _computed(weight), result, stride, padding, dilation, groups)
    _by_planes(_input_gradient, arguments, dx.shape[0] * dx.shape[1], _work(weight, dy))
    _store(dx, result)


def weight_gradient(
    dy: Array, x: Array, dweight: Array, stride: Pair, padding: Pair, dilation: Pair, groups: int, accumulate: bool
) -> None:
    """dweight = the gradient by the weights, which is added to what is there where `accumulate`."""
    result = _computed(np.empty_like(dweight) if accumulate else dweight, empty=True)
    arguments = (_computed(dy), _computed(x), result, stride, padding, dilation, groups)
    _by_planes(_weight_gradient, arguments, dweight.shape[0] * dweight.shape[1], _work(dweight, dy))
    _store(dweight, result, accumulate)


def bias_gradient(dy: Array, dbias: Array, accumulate: bool) -> None:
    """dbias = the sum of dy over images and positions, in the dtype computed in; `accumulate` as for the weights."""
    result = np.empty_like(dbias)
    _by_planes(_bias_gradient, (_computed(dy), result), dy.shape[1], dy.size)
    _store(dbias, result, accumulate)


def _work(weight: Array, dy: Array) -> int:
    """Multiply-adds."""
    return dy.size * (weight.size // weight.shape[0])


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
