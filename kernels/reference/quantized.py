"""Quantized (uint8 and int8) arithmetic in NumPy: what every instruction set computes to the last bit.

A uint8 array stands for the numbers scale (q - zero). Every result is an exact int32 sum `acc`, which one function
makes a uint8 of, in float32:

    q = zero + round(clip(float32(acc) * multiplier, low - zero, high - zero))

float32(acc) is rounded to nearest even, so is the product, and halves go to the even integer. `low` and `high` are
integers from 0 to 255: 0 and 255, or, where a relu, relu6 or the like is applied, the quantized numbers of its bounds.
The product is clipped first, so that nothing leaves the range of int32. (In C: v = (float)acc * m; v = v > lo ? v : lo;
v = v < hi ? v : hi; q = zero + (int)rintf(v); no fused multiply-add can be made of this.)

Images are (N, H, W, C). Arrays are C-contiguous and checked, and the sums fit into int32: whoever calls has seen to it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.kernels.int8_weights import unpack

Array = npt.NDArray[Any]


def requantized(acc: Array, multiplier: Array | float, zero: int, low: int, high: int) -> Array:
    """uint8 of exact integers; `multiplier` is one number or one for each of the last axis."""
    product = acc.astype(np.float32) * np.asarray(multiplier, np.float32)
    clipped = np.minimum(np.maximum(product, np.float32(low - zero)), np.float32(high - zero))
    return (np.rint(clipped).astype(np.int32) + zero).astype(np.uint8)


def matmul(
    x: Array,
    starts: Array | None,
    segments: Array,
    weight: Array,
    bias: Array,
    multiplier: Array | None,
    y: Array,
    column: int,
    zero: int,
    low: int,
    high: int,
) -> None:
    """Products of uint8 rows with packed int8 weights, for linear layers and, through offsets, for convolutions.

    x: uint8 (B, size). Row p of sample b consists of the pieces x[b, starts[p] + segments[s] :][:L], s = 0 ... S - 1;
    starts: int32 (P,), None: one row, from 0. segments: int32 (S,). weight: int8 (ceil(N / 16), S, ceil(L / 4), 16, 4)
    of `int8_weights.pack`; where a row is read past its piece, or past the end of x, the weights are 0.
    acc[n] = bias[n] + sum of weight x; bias: int32 (N,), which holds - zero(x) sum(weight) already.
    y: (B, P, M), of which the columns [column, column + N) are written: uint8, requantized with multiplier, float32
    (N,), zero, low and high; float32, float32(acc) * multiplier; or int32, acc itself, without a multiplier.
    """
    n, flat = len(bias), unpack(weight)[: len(bias)]
    length = flat.shape[2]
    starts = np.zeros(1, np.int32) if starts is None else starts
    padded = np.pad(x, ((0, 0), (0, length)))
    at = starts[:, None, None].astype(np.int64) + segments[:, None] + np.arange(length)
    used = flat.any(0)  # (S, L)
    at = np.where(used, at, 0)
    rows = padded[:, at.reshape(len(starts), -1)].astype(np.float64)
    # float64 holds every sum exactly, and has a BLAS
    acc = (rows @ flat.reshape(n, -1).T.astype(np.float64)).astype(np.int64) + bias
    _write(acc, multiplier, y[:, :, column : column + n], zero, low, high)


def _write(acc: Array, multiplier: Array | None, y: Array, zero: int, low: int, high: int) -> None:
    if multiplier is None:
        y[...] = acc
    elif y.dtype == np.float32:
        y[...] = acc.astype(np.float32) * multiplier
    else:
        y[...] = requantized(acc, multiplier, zero, low, high)


def depthwise(
    x: Array,
    y: Array,
    weight: Array,
    bias: Array,
    multiplier: Array,
    stride: tuple[int, int],
    before: tuple[int, int],
    dilation: tuple[int, int],
    x_zero: int,
    zero: int,
    low: int,
    high: int,
) -> None:
    """A convolution of every channel by itself: x (B, H, W, C), weight int8 (kH, kW, C), y (B, oH, oW, C), uint8.

    acc = bias + sum of weight x, outside of the image x = x_zero; bias: int32 (C,), with - x_zero sum(weight) in it.
    before: the rows and columns that the image is padded with above and to the left.
    """
    (kh, kw, _), (oh, ow) = weight.shape, y.shape[1:3]
    acc = np.broadcast_to(bias.astype(np.int64), y.shape).copy()
    padded = _padded(x, before, (kh, kw), (oh, ow), stride, dilation, x_zero)
    for i in range(kh):
        for j in range(kw):
            acc += _tap(padded, i, j, stride, dilation, oh, ow).astype(np.int64) * weight[i, j]
    y[...] = requantized(acc, multiplier, zero, low, high)


def max_pool(
    x: Array,
    y: Array,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    before: tuple[int, int],
    dilation: tuple[int, int],
) -> None:
    """Maxima of windows, each of which holds at least one pixel: x (B, H, W, C), y (B, oH, oW, C), uint8."""
    oh, ow = y.shape[1:3]
    padded = _padded(x, before, kernel, (oh, ow), stride, dilation, 0)
    y[...] = 0
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            np.maximum(y, _tap(padded, i, j, stride, dilation, oh, ow), out=y)


def _padded(
    x: Array,
    before: tuple[int, int],
    kernel: tuple[int, int],
    out: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    fill: int,
) -> Array:
    needs = [(o - 1) * s + (k - 1) * d + 1 for o, s, k, d in zip(out, stride, kernel, dilation, strict=True)]
    after = [max(0, need - b - n) for need, b, n in zip(needs, before, x.shape[1:3], strict=True)]
    widths = ((0, 0), (before[0], after[0]), (before[1], after[1]), (0, 0))
    return np.pad(x, widths, constant_values=fill)


def _tap(x: Array, i: int, j: int, stride: tuple[int, int], dilation: tuple[int, int], oh: int, ow: int) -> Array:
    top, left = i * dilation[0], j * dilation[1]
    return x[:, top : top + (oh - 1) * stride[0] + 1 : stride[0], left : left + (ow - 1) * stride[1] + 1 : stride[1]]


def average_pool(
    x: Array,
    y: Array,
    rows: tuple[Array, Array],
    columns: tuple[Array, Array],
    multiplier: Array,
    x_zero: int,
    zero: int,
    low: int,
    high: int,
) -> None:
    """Means of regions: x (B, H, W, C), y (B, oH, oW, C), uint8. acc = the region's sum of x - x_zero.

    rows, columns: int32 arrays of where the regions of an axis begin and end; multiplier: float32 (oH, oW), in which is
    1 / the number by which the mean divides.
    """
    for i, (top, bottom) in enumerate(zip(*rows, strict=True)):
        for j, (left, right) in enumerate(zip(*columns, strict=True)):
            acc = (x[:, top:bottom, left:right].astype(np.int64) - x_zero).sum((1, 2))
            y[:, i, j] = requantized(acc, multiplier[i, j], zero, low, high)


def add(
    a: Array, b: Array, y: Array, by_a: int, by_b: int, bias: int, multiplier: float, zero: int, low: int, high: int
) -> None:
    """acc = by_a a + by_b b + bias; by_a and by_b are int16, arrays uint8 of one shape; y may be a or b."""
    acc = a.astype(np.int64) * by_a + b.astype(np.int64) * by_b + bias
    y[...] = requantized(acc, multiplier, zero, low, high)


def lookup(x: Array, y: Array, table: Array) -> None:
    """y = table[x], of 256 bytes: any function of one number. y may be x."""
    y[...] = table[x]


def window(x: Array, y: Array, top: int, left: int, stride: int, fill: int) -> None:
    """Pad, or leave out: y[b, i, j, c] = x[b, stride i - top, stride j - left, c], `fill` where x has no such pixel.

    x (B, H, W, C), y (B, H', W', C'), C' at least C.
    """
    y[...] = fill
    (height, width, channels), (rows, columns) = x.shape[1:], y.shape[1:3]
    i, j = np.arange(rows) * stride - top, np.arange(columns) * stride - left
    inside_i, inside_j = np.flatnonzero((i >= 0) & (i < height)), np.flatnonzero((j >= 0) & (j < width))
    y[:, inside_i[:, None], inside_j, :channels] = x[:, i[inside_i][:, None], j[inside_j]]


def quantize(x: Array, y: Array, multiplier: float, zero: int) -> None:
    """float32 (B, C, S) to uint8 (B, S, C): zero + round(clip(x * multiplier, ...)), as above; NaN becomes 0."""
    with np.errstate(over="ignore"):
        product = x.transpose(0, 2, 1) * np.float32(multiplier)
    product = np.where(product > -zero, product, np.float32(-zero))  # NaN too
    y[...] = (np.rint(np.minimum(product, np.float32(255 - zero))).astype(np.int32) + zero).astype(np.uint8)


def dequantize(x: Array, y: Array, scale: float, zero: int) -> None:
    """uint8 (B, S, C) to float32 (B, C, S): float32(x - zero) * scale."""
    y[...] = (x.transpose(0, 2, 1).astype(np.int32) - zero).astype(np.float32) * np.float32(scale)


def quantize_rows(x: Array, y: Array, scale: Array, zero: Array) -> None:
    """Each row by itself, x float32 (R, K), y uint8 (R, K); scale, float32 (R,), and zero, int32 (R,), are results.

    low = min(x, 0), high = max(x, 0), scale = (high - low) / 255, or 1 if that is 0 or not finite;
    zero = round(-low * (1 / scale)); then as `quantize` with 1 / scale. NaN counts neither as low nor as high.
    """
    with np.errstate(all="ignore"):
        low = np.fmin.reduce(x, axis=1, initial=np.float32(0))
        high = np.fmax.reduce(x, axis=1, initial=np.float32(0))
        width = (high - low) / np.float32(255)
        inverse = np.float32(1) / width
        ok = np.isfinite(width) & np.isfinite(inverse)
        scale[...] = np.where(ok, width, np.float32(1))
        inverse = np.where(ok, inverse, np.float32(1))
        zero[...] = np.rint(np.clip(-low * inverse, np.float32(0), np.float32(255))).astype(np.int32)
        product = x * inverse[:, None]
        bottom = (-zero[:, None]).astype(np.float32)
        product = np.minimum(np.where(product > bottom, product, bottom), (255 - zero[:, None]).astype(np.float32))
    y[...] = (np.rint(product).astype(np.int32) + zero[:, None]).astype(np.uint8)


def finish_rows(
    acc: Array,
    scale: Array,
    zero: Array,
    sums: Array,
    weight_scale: Array,
    bias: Array,
    y: Array,
    low: float,
    high: float,
) -> None:
    """The float32 results of products with rows of their own scales: acc int32 (R, N), y float32 (R, N).

    y = clip(float32(acc - zero[r] sums[n]) * (scale[r] * weight_scale[n]) + bias[n], low, high), every operation
    rounded to float32; sums: int32 (N,), of the weights.
    """
    exact = (acc.astype(np.int64) - zero[:, None].astype(np.int64) * sums).astype(np.float32)
    with np.errstate(all="ignore"):
        values = exact * (scale[:, None] * weight_scale) + bias
        y[...] = np.minimum(np.maximum(values, np.float32(low)), np.float32(high))
