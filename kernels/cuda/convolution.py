"""Convolutions of (N, C, H, W). Source: convolution.cu.

By cuDNN where CuPy has it (up to its version 13) and the convolution is one that cuDNN knows; else as products of
matrices, the columns of some images at a time. Depthwise ones have kernels of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastnn.fusion import Fused
from fastnn.kernels.cuda import cudnn
from fastnn.kernels.cuda.compiler import Family, blocks_for, compute_dtype, cupy, launch, launch_elements, launch_rows
from fastnn.kernels.cuda.fused import LAYERS, NONE, cxx, numbers
from fastnn.kernels.cuda.gemm import multiply
from fastnn.kernels.cuda.linear import sum_channels

Array = Any
Pair = tuple[int, int]

FAMILY = Family(
    "convolution",
    "to_columns<{T}>",
    "from_columns<{T}>",
    "depthwise<{T}, {T}>",
    "depthwise<{T}, {V}>",
    "depthwise_input<{T}>",
    "depthwise_weight<{T}>",
    f"finish_images<{{T}}, {NONE}>",
    f"finish_rows<{{T}}, {NONE}>",
    "bias_sums<{T}>",
    "bias_totals<{V}>",
)
_NAMES = "images channels height width rows columns kernel_rows kernel_columns stride_rows stride_columns top left"
_SHAPE = np.dtype([(name, np.int64) for name in (*_NAMES.split(), "gap_rows", "gap_columns")])  # `conv_shape`
_COLUMNS = 1 << 26  # numbers of the columns that are there at a time, unless a single image has more


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
    then = None if activation is None else Fused(activation, params)
    steps = (stride, padding, dilation)
    if _is_depthwise(weight, groups):
        wide = compute_dtype(y.dtype)
        plain = then is None and before is None
        z = y if plain or y.dtype == wide else cupy().empty(y.shape, wide)
        kernel = FAMILY.kernel("depthwise<{T}, {T}>" if plain else "depthwise<{T}, {V}>", x.dtype)
        shape = _shape(x, weight, y, *steps)
        launch(kernel, blocks_for(y.size), x, weight, bias, z, shape, weight.shape[0] // groups)
        if not plain:
            _finish("finish_rows<{T}, {A}>", then, z, None, y, before, y.size, y.shape[3])
        return
    if cudnn.forward(x, weight, y, *steps, groups) or _pointwise(weight, x, y, stride, padding, groups, False):
        if bias is not None or then is not None or before is not None:
            _finish("finish_images<{T}, {A}>", then, y, bias, y, before, *y.shape[:2], y.shape[2] * y.shape[3], 0)
        return
    for images in _chunks(x, weight, y):
        part, to = x[images], y[images]
        columns = _columns(part, weight, to, *steps, groups)
        product = cupy().empty((groups, weight.shape[0] // groups, columns.shape[2]), compute_dtype(y.dtype))
        _multiply(weight.reshape(groups, weight.shape[0] // groups, -1), columns, product)
        z = None if before is None else before[images]
        shape = (*to.shape[:2], to.shape[2] * to.shape[3])
        _finish("finish_images<{T}, {A}>", then, product, bias, to, z, *shape, 1)


def input_gradient(
    dy: Array, weight: Array, dx: Array, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> None:
    """dx = the gradient of the convolution's sum over dy by its input."""
    steps = (stride, padding, dilation)
    if _is_depthwise(weight, groups):
        kernel, shape = FAMILY.kernel("depthwise_input<{T}>", dx.dtype), _shape(dx, weight, dy, *steps)
        launch(kernel, blocks_for(dx.size), dy, weight, dx, shape, weight.shape[0] // groups)
        return
    known = cudnn.input_gradient(dy, weight, dx, *steps, groups)
    if known or _pointwise(weight, dy, dx, stride, padding, groups, True):
        return
    factor = weight.reshape(groups, weight.shape[0] // groups, -1).transpose(0, 2, 1)
    for images in _chunks(dx, weight, dy):
        rows = _by_channel(dy[images], groups)
        columns = cupy().empty((groups, factor.shape[1], rows.shape[2]), compute_dtype(dx.dtype))
        _multiply(factor, rows, columns)
        to, shape = dx[images], _shape(dx[images], weight, dy[images], *steps)
        launch(FAMILY.kernel("from_columns<{T}>", dx.dtype), blocks_for(to.size), columns, to, shape)


def weight_gradient(
    dy: Array, x: Array, dweight: Array, stride: Pair, padding: Pair, dilation: Pair, groups: int, accumulate: bool
) -> None:
    """dweight = the gradient by the weights, which is added to what is there where `accumulate`."""
    steps = (stride, padding, dilation)
    if _is_depthwise(dweight, groups):
        kernel, shape = FAMILY.kernel("depthwise_weight<{T}>", x.dtype), _shape(x, dweight, dy, *steps)
        outputs = dweight.shape[0] // groups
        launch_rows(kernel, dweight.size, dy, x, dweight, shape, outputs, int(accumulate), threads=128)
        return
    if not accumulate and cudnn.weight_gradient(dy, x, dweight, *steps, groups):
        return
    total = None
    for images in _chunks(x, dweight, dy):
        columns = _columns(x[images], dweight, dy[images], *steps, groups)
        rows = _by_channel(dy[images], groups)
        product = cupy().empty((groups, rows.shape[1], columns.shape[1]), compute_dtype(x.dtype))
        _multiply(rows, columns.transpose(0, 2, 1), product)
        total = product if total is None else cupy().add(total, product, out=total)
    if total is not None:
        total = total.reshape(dweight.shape)
        dweight[...] = dweight.astype(total.dtype, copy=False) + total if accumulate else total


def bias_gradient(dy: Array, dbias: Array, accumulate: bool) -> None:
    """dbias = the sum of dy over images and positions, in the dtype computed in; `accumulate` as for the weights."""
    sum_channels(FAMILY, dy.reshape(*dy.shape[:2], -1), dbias, accumulate)


def _is_depthwise(weight: Array, groups: int) -> bool:
    return groups > 1 and weight.shape[1] == 1


def _pointwise(weight: Array, x: Array, y: Array, stride: Pair, padding: Pair, groups: int, transposed: bool) -> bool:
    """y[n] = weight x[n], without columns, where positions see themselves alone and nothing is to be rounded."""
    if (*weight.shape[2:], *stride, *padding) != (1, 1, 1, 1, 0, 0) or x.shape[2:] != y.shape[2:]:
        return False
    if x.dtype != compute_dtype(x.dtype):
        return False
    factor = weight.reshape(1, groups, weight.shape[0] // groups, weight.shape[1])
    images, to = (each.reshape(len(x), groups, each.shape[1] // groups, -1) for each in (x, y))
    cupy().matmul(factor.transpose(0, 1, 3, 2) if transposed else factor, images, out=to)
    return True


def _shape(x: Array, weight: Array, y: Array, stride: Pair, padding: Pair, dilation: Pair) -> Any:
    values = (*x.shape, *y.shape[2:], *weight.shape[2:], *stride, *padding, *dilation)
    return np.array(values, _SHAPE)


def _chunks(x: Array, weight: Array, y: Array) -> Iterator[slice]:
    """Images whose columns are there at a time."""
    each = x.shape[1] * weight.shape[2] * weight.shape[3] * y.shape[2] * y.shape[3]
    together = max(1, _COLUMNS // max(1, each))
    for first in range(0, len(x), together):
        yield slice(first, min(len(x), first + together))


def _columns(x: Array, weight: Array, y: Array, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> Array:
    """What the positions of y see of x: (groups, weights of an output, images positions)."""
    taps, length = weight.shape[2] * weight.shape[3], len(x) * y.shape[2] * y.shape[3]
    made = cupy().empty((groups, weight.shape[1] * taps, length), x.dtype)
    tasks = x.shape[1] * taps * -(-length // 2048)  # pieces of rows: see to_columns
    shape = _shape(x, weight, y, stride, padding, dilation)
    launch_rows(FAMILY.kernel("to_columns<{T}>", x.dtype), tasks, x, made, shape)
    return made


def _by_channel(dy: Array, groups: int) -> Array:
    """dy as (groups, channels of a group, images positions)."""
    images, channels = dy.shape[:2]
    turned = dy.reshape(images, channels, -1).transpose(1, 0, 2)
    return cupy().ascontiguousarray(turned).reshape(groups, channels // groups, -1)


def _multiply(a: Array, b: Array, out: Array) -> None:
    """out[g] = a[g] b[g] for every group."""
    if a.dtype == out.dtype and len(out) > 1:
        cupy().matmul(a, b, out=out)
        return
    for first, second, product in zip(a, b, out, strict=True):
        multiply(first, second, product)


def _finish(
    kernel: str, then: Fused | None, product: Array, bias: Array | None, y: Array, before: Array | None, *shape: int
) -> None:
    family, item = FAMILY if then is None else LAYERS, compute_dtype(y.dtype).itemsize
    found = family.kernel(kernel.replace("{A}", cxx(then)), y.dtype)
    launch_elements(found, y.size, item, product, bias, y, before, *shape, *numbers(then, y.dtype))
