"""The public functions of the family `pooling`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from sys import modules
from typing import Any

from fastnn.arguments import Array, checked_word, flag, real_array
from fastnn.arrays import together
from fastnn.function import public
from fastnn.pooled import (
    Plan,
    Pooled,
    adaptive_backward,
    adaptive_pool,
    average,
    average_backward,
    avg_pool,
    avg_pool_backward,
    checked_shape,
    checked_spatial,
    global_plan,
    max_backward,
    max_pool,
    maxima,
)
from fastnn.sliding import Numbers, Sizes
from fastnn.table.pooling import ROWS
from fastnn.table.pooling_formulas import SHARED, fractional_bounds
from fastnn.windows import sizes

__all__ = [row.name for row in ROWS]

_ROW = {row.name: row for row in ROWS}
Output = int | None | Sequence[int | None]


@public(_ROW["max_pool1d"])
def max_pool1d(
    x: Any,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Numbers = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    indices: Array | None = None,
    out: Array | None = None,
) -> Pooled:
    return max_pool(1, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, indices, out)


@public(_ROW["max_pool1d_backward"])
def max_pool1d_backward(dy: Any, indices: Any, x_shape: Sequence[int], *, out: Array | None = None) -> Array:
    return max_backward("max_pool1d_backward", 1, dy, indices, x_shape, out)


@public(_ROW["max_pool2d"])
def max_pool2d(
    x: Any,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Numbers = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    indices: Array | None = None,
    out: Array | None = None,
) -> Pooled:
    return max_pool(2, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, indices, out)


@public(_ROW["max_pool2d_backward"])
def max_pool2d_backward(dy: Any, indices: Any, x_shape: Sequence[int], *, out: Array | None = None) -> Array:
    return max_backward("max_pool2d_backward", 2, dy, indices, x_shape, out)


@public(_ROW["max_pool3d"])
def max_pool3d(
    x: Any,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Numbers = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    indices: Array | None = None,
    out: Array | None = None,
) -> Pooled:
    return max_pool(3, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, indices, out)


@public(_ROW["max_pool3d_backward"])
def max_pool3d_backward(dy: Any, indices: Any, x_shape: Sequence[int], *, out: Array | None = None) -> Array:
    return max_backward("max_pool3d_backward", 3, dy, indices, x_shape, out)


@public(_ROW["avg_pool1d"])
def avg_pool1d(
    x: Any,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Numbers = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    dilation: Sizes = 1,
    out: Array | None = None,
) -> Array:
    return avg_pool(1, x, kernel_size, stride, padding, ceil_mode, count_include_pad, dilation, out)


@public(_ROW["avg_pool1d_backward"])
def avg_pool1d_backward(
    dy: Any,
    x_shape: Sequence[int],
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Numbers = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    dilation: Sizes = 1,
    out: Array | None = None,
) -> Array:
    return avg_pool_backward(1, dy, x_shape, kernel_size, stride, padding, ceil_mode, count_include_pad, dilation, out)


@public(_ROW["avg_pool2d"])
def avg_pool2d(
    x: Any,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Numbers = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    dilation: Sizes = 1,
    out: Array | None = None,
) -> Array:
    return avg_pool(2, x, kernel_size, stride, padding, ceil_mode, count_include_pad, dilation, out)


@public(_ROW["avg_pool2d_backward"])
def avg_pool2d_backward(
    dy: Any,
    x_shape: Sequence[int],
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Numbers = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    dilation: Sizes = 1,
    out: Array | None = None,
) -> Array:
    return avg_pool_backward(2, dy, x_shape, kernel_size, stride, padding, ceil_mode, count_include_pad, dilation, out)


@public(_ROW["avg_pool3d"])
def avg_pool3d(
    x: Any,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Numbers = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    dilation: Sizes = 1,
    out: Array | None = None,
) -> Array:
    return avg_pool(3, x, kernel_size, stride, padding, ceil_mode, count_include_pad, dilation, out)


@public(_ROW["avg_pool3d_backward"])
def avg_pool3d_backward(
    dy: Any,
    x_shape: Sequence[int],
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Numbers = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    dilation: Sizes = 1,
    out: Array | None = None,
) -> Array:
    return avg_pool_backward(3, dy, x_shape, kernel_size, stride, padding, ceil_mode, count_include_pad, dilation, out)


@public(_ROW["adaptive_avg_pool1d"])
def adaptive_avg_pool1d(x: Any, output_size: Output, *, out: Array | None = None) -> Array:
    return adaptive_pool(1, x, output_size, out)


@public(_ROW["adaptive_avg_pool1d_backward"])
def adaptive_avg_pool1d_backward(dy: Any, x_shape: Sequence[int], *, out: Array | None = None) -> Array:
    return adaptive_backward(1, dy, x_shape, out)


@public(_ROW["adaptive_avg_pool2d"])
def adaptive_avg_pool2d(x: Any, output_size: Output, *, out: Array | None = None) -> Array:
    return adaptive_pool(2, x, output_size, out)


@public(_ROW["adaptive_avg_pool2d_backward"])
def adaptive_avg_pool2d_backward(dy: Any, x_shape: Sequence[int], *, out: Array | None = None) -> Array:
    return adaptive_backward(2, dy, x_shape, out)


@public(_ROW["adaptive_avg_pool3d"])
def adaptive_avg_pool3d(x: Any, output_size: Output, *, out: Array | None = None) -> Array:
    return adaptive_pool(3, x, output_size, out)


@public(_ROW["adaptive_avg_pool3d_backward"])
def adaptive_avg_pool3d_backward(dy: Any, x_shape: Sequence[int], *, out: Array | None = None) -> Array:
    return adaptive_backward(3, dy, x_shape, out)


@public(_ROW["global_avg_pool"])
def global_avg_pool(x: Any, *, out: Array | None = None) -> Array:
    title = "global_avg_pool"
    x = real_array(title, "x", x)
    return average(title, global_plan(title, x.shape, "x has shape"), x, out)


@public(_ROW["global_avg_pool_backward"])
def global_avg_pool_backward(dy: Any, x_shape: Sequence[int], *, out: Array | None = None) -> Array:
    title = "global_avg_pool_backward"
    shape = checked_shape(title, x_shape, None)
    return average_backward(title, global_plan(title, shape, "x_shape is"), dy, out)


@public(_ROW["fractional_max_pool2d"])
def fractional_max_pool2d(
    x: Any,
    output_size: Sizes,
    *,
    seed: int,
    offset: int = 0,
    pseudo_random: bool = False,
    overlapping: bool = False,
    shared: str = "sample",
    return_indices: bool = False,
    indices: Array | None = None,
    out: Array | None = None,
) -> Pooled:
    title = "fractional_max_pool2d"
    if "cupy" in modules:
        together(title, x=x, indices=indices, out=out)
    x = real_array(title, "x", x)
    spatial = checked_spatial(title, "x has shape", x.shape, 2)
    output = sizes(title, "output_size", output_size, 2)
    if any(size > length for size, length in zip(output, spatial, strict=True)):
        raise ValueError(f"{title}: output_size is {output}; expected at most x's spatial lengths, {spatial}")
    seed, offset = checked_word(title, "seed", seed), checked_word(title, "offset", offset)
    pseudo_random, overlapping = flag(title, "pseudo_random", pseudo_random), flag(title, "overlapping", overlapping)
    if not isinstance(shared, str) or shared not in SHARED:
        raise (ValueError if isinstance(shared, str) else TypeError)(
            f"{title}: shared is {shared!r}; expected one of {', '.join(map(repr, SHARED))}"
        )
    bounds = fractional_bounds(x.shape[:2], spatial, output, seed, offset, pseudo_random, overlapping, shared)
    plan = Plan(x.shape, (*x.shape[:2], *output), "max_regions", bounds, math.prod(spatial))
    return maxima(title, plan, x, return_indices, indices, out)


@public(_ROW["fractional_max_pool2d_backward"])
def fractional_max_pool2d_backward(dy: Any, indices: Any, x_shape: Sequence[int], *, out: Array | None = None) -> Array:
    return max_backward("fractional_max_pool2d_backward", 2, dy, indices, x_shape, out)
