"""What the public functions of pooling have in common, whatever the number of axes: checks, and calls of kernels.

What follows from shapes and options alone is a plan, made once and kept: a call with plain arrays is short.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from sys import modules
from typing import Any, NamedTuple, TypeVar

import numpy as np

from fastnn.arguments import (
    Array,
    bare,
    check_out,
    check_updated,
    flag,
    overlap,
    plain,
    real_array,
    receiver,
    stored,
    takes,
)
from fastnn.arrays import empty, is_plain, may_share, on_device, together
from fastnn.dispatch import implementation
from fastnn.windows import MOST, Axis, adaptive, counts, for_kernels, pairs, sizes, three, windows

_SPACE = {None: "(N, C, *spatial)", 1: "(N, C, L)", 2: "(N, C, H, W)", 3: "(N, C, D, H, W)"}
_MOST = 1 << 59  # elements: their bytes fit 64 bits
_LONG = 1 << 16  # a plan may hold some numbers for every element of an axis: those of longer axes are not kept
_MOST_KEPT = 256
Shape = tuple[int, ...]
Pooled = Array | tuple[Array, Array]
_P = TypeVar("_P", bound=Callable[..., Any])


# ---- plans ----


class Plan(NamedTuple):
    """A pooling: its shapes, and the kernel and what that takes beside the arrays."""

    x: Shape
    y: Shape
    kernel: str
    arguments: tuple[Any, ...]
    reach: int = 0  # of maxima: elements that the rows of a window span


def planned(make: _P) -> _P:
    """Keep the plans that `make(title, shape, ...)` makes, of exact ints, bools and strings."""
    kept: dict[Any, Plan] = {}

    def plan(*key: Any) -> Plan:
        found = kept.get(key)
        if found is None:
            found = make(*key)
            if max(found.x + found.y, default=0) <= _LONG:
                if len(kept) >= _MOST_KEPT:
                    kept.clear()
                kept[key] = found
        return found

    return plan  # type: ignore[return-value]


def checked_spatial(title: str, name: str, shape: Shape, dims: int | None) -> Shape:
    """The spatial lengths of an array (N, C, *spatial), so many and none of them 0."""
    if len(shape) != dims + 2 if dims is not None else len(shape) < 3:
        raise ValueError(f"{title}: {name} {shape}; expected {_SPACE[dims]}")
    if 0 in shape[2:]:
        raise ValueError(f"{title}: {name} {shape}; expected {_SPACE[dims]} with an element on every axis")
    return shape[2:]


def _result(title: str, shape: Shape) -> Shape:
    if math.prod(shape) >= _MOST:
        raise ValueError(f"{title}: the result would have shape {shape}; expected fewer than 2^59 elements")
    return shape


Options = tuple[Any, Any, Any, Any, bool]  # kernel_size, stride, padding, dilation, ceil_mode


def window_options(
    title: str, dims: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any
) -> Options:
    """Of ints, or tuples of them, whatever sequences came."""
    if type(kernel_size) is not int:
        kernel_size = sizes(title, "kernel_size", kernel_size, dims)
    if stride is not None and type(stride) is not int:
        stride = sizes(title, "stride", stride, dims)
    if type(padding) is not int:
        padding = pairs(title, "padding", padding, dims)
    if type(dilation) is not int:
        dilation = sizes(title, "dilation", dilation, dims)
    return kernel_size, stride, padding, dilation, flag(title, "ceil_mode", ceil_mode)


@planned
def max_plan(title: str, shape: Shape, dims: int, *options: Any) -> Plan:
    axes = windows(title, checked_spatial(title, "x has shape", shape, dims), *options)
    y = _result(title, (*shape[:2], *(axis.out for axis in axes)))
    return Plan(shape, y, "max_windows", (for_kernels(axes),), _reach(axes))


def _reach(axes: tuple[Axis, ...]) -> int:
    depth, height, width = three(axes)
    rows = (depth.kernel - 1) * depth.dilation * height.inputs + (height.kernel - 1) * height.dilation + 1
    return rows * width.inputs


# Windows that tile the input are the regions of an adaptive pooling too. Loops over windows take one lane a window,
# which pays while neighbouring windows are near each other; loops over regions add up whole rows first.
_WIDE = {"x has shape": 2, "x_shape is": 8}  # strides up to which windows were measured to be faster: forward, backward


def _is_tiling(axes: tuple[Axis, ...]) -> bool:
    return all(
        (axis.kernel, axis.before, axis.after, axis.dilation, axis.stride * axis.out)
        == (axis.stride, 0, 0, 1, axis.inputs)
        for axis in axes
    )


@planned
def average_plan(title: str, shape: Shape, dims: int, name: str, include: bool, *options: Any) -> Plan:
    """`name` says what the shape is of."""
    spatial = checked_spatial(title, name, shape, dims)
    axes = windows(title, spatial, *options, padding_counts=include)
    y = _result(title, (*shape[:2], *(axis.out for axis in axes)))
    if _is_tiling(axes) and axes[-1].stride > _WIDE[name]:
        return Plan(shape, y, "average_regions", adaptive(spatial, y[2:]))
    return Plan(shape, y, "average_windows", (for_kernels(axes), counts(axes, include)))


@planned
def adaptive_plan(title: str, shape: Shape, dims: int, name: str, output: Any) -> Plan:
    spatial = checked_spatial(title, name, shape, dims)
    found = sizes(title, "output_size", output, dims)
    y = _result(title, (*shape[:2], *found))
    if math.prod(found) == 1:
        return Plan(shape, y, "average_whole", ())
    if all(length % out == 0 for length, out in zip(spatial, found, strict=True)):
        steps = tuple([length // out for length, out in zip(spatial, found, strict=True)])
        if steps[-1] <= _WIDE[name]:
            axes = windows(title, spatial, steps, None, 0, 1, False)
            return Plan(shape, y, "average_windows", (for_kernels(axes), counts(axes, False)))
    return Plan(shape, y, "average_regions", adaptive(spatial, found))


@planned
def global_plan(title: str, shape: Shape, name: str) -> Plan:
    """The plan of global_avg_pool."""
    checked_spatial(title, name, shape, None)
    return Plan(_result(title, shape), shape[:2], "average_whole", ())


# ---- arguments and results ----


def checked_shape(title: str, x_shape: Any, dims: int | None) -> Shape:
    """The shape of the input of a forward pass, as exact ints."""
    if type(x_shape) is tuple and set(map(type, x_shape)) == {int} and min(x_shape) >= 0 and max(x_shape) <= MOST:
        return x_shape
    if not isinstance(x_shape, Sequence) or isinstance(x_shape, (str, bytes)):
        expected = f"expected a tuple of ints, {_SPACE[dims]}"
        raise TypeError(f"{title}: x_shape is of type {type(x_shape).__name__}; {expected}")
    return sizes(title, "x_shape", tuple(x_shape), len(x_shape), 0)


def receiving(out: Any, title: str, shape: Shape, dtype: np.dtype[Any], *inputs: Array) -> Array:
    """Where a result is computed: `out`, which is checked here, or an array beside it where it shares memory."""
    like = inputs[0]
    if out is None:
        return np.empty(shape, dtype) if type(like) is np.ndarray else empty(like, shape, dtype)
    if takes(out, shape, dtype, *inputs):
        found: Array = out
        return found
    check_out(title, out, shape, dtype, {})
    return receiver(None if any(may_share(out, array) for array in inputs) else out, shape, dtype, like)


def positions(title: str, indices: Any, shape: Shape, x: Array, out: Array | None) -> Array:
    """Where the positions of maxima go: `indices` if there are any, which are checked here."""
    if indices is None:
        return empty(x, shape, np.int64)
    check_updated(title, "indices", indices, shape, np.dtype(np.int64))
    if not is_plain(indices):
        raise ValueError(f"{title}: indices has strides {indices.strides}; expected a C-contiguous, aligned array")
    for name, other in (("x", x), ("out", out)):
        if other is not None and overlap(other, indices):
            raise ValueError(f"{title}: indices overlaps {name} in memory; expected memory apart from it")
    found: Array = indices
    return found


def run(kernel: str, *arrays: Any) -> bool:
    """Call a kernel of the backend in force, unless there is nothing to compute. What it returns."""
    return arrays[0].size == 0 or getattr(implementation("pooling", arrays[0]), kernel)(*arrays) is not False


# ---- what the functions for one, two and three axes have in common ----


def max_pool(dims: int, x: Any, *given: Any) -> Pooled:
    """`given` are the arguments in order."""
    *options, return_indices, indices, out = given
    title = f"max_pool{dims}d"
    if "cupy" in modules:
        together(title, x=x, indices=indices, out=out)
    x = real_array(title, "x", x)
    return maxima(
        title, max_plan(title, x.shape, dims, *window_options(title, dims, *options)), x, return_indices, indices, out
    )


def maxima(title: str, plan: Plan, x: Array, return_indices: Any, indices: Any, out: Any) -> Pooled:
    """The maxima of a plan, and their positions where wanted."""
    indexed = flag(title, "return_indices", return_indices) or indices is not None
    if indexed and plan.reach >= 1 << 32 and x.dtype != np.float64:  # kernels keep positions in bits of x's dtype
        raise ValueError(
            f"{title}: a window's rows span {plan.reach} elements of x; expected less than 2^32 with return_indices, "
            "or x in float64"
        )
    y = receiving(out, title, plan.y, x.dtype, x)
    if not indexed:
        run(plan.kernel, plain(x), y, None, *plan.arguments)
        return stored(y, out)
    where = positions(title, indices, plan.y, x, out)
    run(plan.kernel, plain(x), y, bare(where), *plan.arguments)
    return stored(y, out), where


def max_backward(title: str, dims: int, dy: Any, indices: Any, x_shape: Any, out: Array | None) -> Array:
    if "cupy" in modules:
        together(title, dy=dy, indices=indices, out=out)
    shape = checked_shape(title, x_shape, dims)
    size = math.prod(checked_spatial(title, "x_shape is", shape, dims))
    array = real_array(title, "dy", dy)
    if array.ndim != dims + 2 or array.shape[:2] != shape[:2]:
        raise ValueError(
            f"{title}: dy has shape {array.shape}; expected {_SPACE[dims]} with N and C of x_shape {shape}"
        )
    where: Any = indices if on_device(indices) else np.asarray(indices)
    if where.dtype.kind not in "iu":
        raise TypeError(f"{title}: indices has dtype {where.dtype}; expected int64, or another integer dtype")
    if where.shape != array.shape:
        raise ValueError(f"{title}: indices has shape {where.shape}; expected that of dy, {array.shape}")
    dx = receiving(out, title, _result(title, shape), array.dtype, array, where)
    if where.size == 0:
        dx[...] = 0
        return stored(dx, out)
    places = plain(where if where.dtype == np.int64 else where.astype(np.int64))
    if on_device(places):  # which is not waited for: places outside the plane are left out
        run("max_backward", plain(array), places, dx)
    elif (out is not None and not run("inside", places, size)) or not run("max_backward", plain(array), places, dx):
        raise ValueError(
            f"{title}: indices reach from {where.min()} to {where.max()}; expected places in a plane of "
            f"{size} elements, for x_shape is {shape}"
        )
    return stored(dx, out)


def average(title: str, plan: Plan, x: Array, out: Array | None) -> Array:
    """The averages of a plan."""
    if "cupy" in modules:
        together(title, x=x, out=out)
    y = receiving(out, title, plan.y, x.dtype, x)
    run(plan.kernel, plain(x), y, *plan.arguments)
    return stored(y, out)


def average_backward(title: str, plan: Plan, dy: Any, out: Array | None) -> Array:
    """The gradient of the averages of a plan."""
    if "cupy" in modules:
        together(title, dy=dy, out=out)
    array = real_array(title, "dy", dy)
    if array.shape != plan.y:
        raise ValueError(f"{title}: dy has shape {array.shape}; expected {plan.y}, the shape of the forward pass's y")
    dx = receiving(out, title, _result(title, plan.x), array.dtype, array)
    run(f"{plan.kernel}_backward", plain(array), dx, *plan.arguments)
    return stored(dx, out)


def avg_pool(dims: int, x: Any, *given: Any) -> Array:
    kernel_size, stride, padding, ceil_mode, count_include_pad, dilation, out = given
    title = f"avg_pool{dims}d"
    x = real_array(title, "x", x)
    options = window_options(title, dims, kernel_size, stride, padding, dilation, ceil_mode)
    include = flag(title, "count_include_pad", count_include_pad)
    return average(title, average_plan(title, x.shape, dims, "x has shape", include, *options), x, out)


def avg_pool_backward(dims: int, dy: Any, x_shape: Any, *given: Any) -> Array:
    kernel_size, stride, padding, ceil_mode, count_include_pad, dilation, out = given
    title = f"avg_pool{dims}d_backward"
    shape = checked_shape(title, x_shape, dims)
    options = window_options(title, dims, kernel_size, stride, padding, dilation, ceil_mode)
    include = flag(title, "count_include_pad", count_include_pad)
    return average_backward(title, average_plan(title, shape, dims, "x_shape is", include, *options), dy, out)


def adaptive_pool(dims: int, x: Any, output_size: Any, out: Array | None) -> Array:
    title = f"adaptive_avg_pool{dims}d"
    x = real_array(title, "x", x)
    if type(output_size) is not int:
        spatial = checked_spatial(title, "x has shape", x.shape, dims)
        given = output_size if isinstance(output_size, Sequence) else (output_size,) * dims
        wanted = [length if size is None else size for size, length in zip(given, spatial, strict=False)]
        output_size = sizes(title, "output_size", (*wanted, *given[dims:]), dims)
    return average(title, adaptive_plan(title, x.shape, dims, "x has shape", output_size), x, out)


def adaptive_backward(dims: int, dy: Any, x_shape: Any, out: Array | None) -> Array:
    title = f"adaptive_avg_pool{dims}d_backward"
    shape = checked_shape(title, x_shape, dims)
    array = real_array(title, "dy", dy)
    if array.ndim != dims + 2 or 0 in array.shape[2:] or array.shape[:2] != shape[:2]:
        raise ValueError(
            f"{title}: dy has shape {array.shape}; expected {_SPACE[dims]} with N and C of x_shape {shape}, and an "
            "element on every axis"
        )
    plan = adaptive_plan(title, shape, dims, "x_shape is", array.shape[2:])
    return average_backward(title, plan, array, out)
