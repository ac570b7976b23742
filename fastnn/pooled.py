"""What the public functions of pooling have in common, whatever the number of axes: checks, and calls of kernels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.arguments import Array, check_out, check_updated, flag, overlap, plain, real_array, receiver, stored
from fastnn.dispatch import implementation
from fastnn.windows import Axis, Bounds, adaptive, counts, for_kernels, sizes, three, windows

_SPACE = {1: "(N, C, L)", 2: "(N, C, H, W)", 3: "(N, C, D, H, W)"}
_MOST = 1 << 59  # elements: their bytes fit 64 bits
Pooled = Array | tuple[Array, Array]


# ---- arguments ----


def checked_input(title: str, name: str, value: Any, dims: int | None) -> Array:
    """An array (N, C, *spatial) with so many spatial axes, none of which is empty."""
    array = real_array(title, name, value)
    expected = "(N, C, *spatial)" if dims is None else _SPACE[dims]
    if array.ndim != dims + 2 if dims is not None else array.ndim < 3:
        raise ValueError(f"{title}: {name} has shape {array.shape}; expected {expected}")
    if 0 in array.shape[2:]:
        raise ValueError(f"{title}: {name} has shape {array.shape}; expected {expected} with an element on every axis")
    return array


def checked_shape(title: str, x_shape: Any, dims: int | None) -> tuple[int, ...]:
    """The shape of the input of a forward pass."""
    expected = "(N, C, *spatial)" if dims is None else _SPACE[dims]
    if not isinstance(x_shape, Sequence) or isinstance(x_shape, (str, bytes)):
        raise TypeError(f"{title}: x_shape is of type {type(x_shape).__name__}; expected a tuple of ints, {expected}")
    if len(x_shape) != dims + 2 if dims is not None else len(x_shape) < 3:
        raise ValueError(f"{title}: x_shape is {tuple(x_shape)}; expected {expected}")
    shape = sizes(title, "x_shape", tuple(x_shape), len(x_shape), 0)
    if 0 in shape[2:]:
        raise ValueError(f"{title}: x_shape is {shape}; expected {expected} with an element on every axis")
    return shape


def checked_gradient(title: str, dy: Any, shape: tuple[int, ...]) -> Array:
    """The array dy, which must have that shape."""
    array = real_array(title, "dy", dy)
    if array.shape != shape:
        raise ValueError(f"{title}: dy has shape {array.shape}; expected {shape}, the shape of the forward pass's y")
    return array


class Result:
    """Where a result is computed, and where it goes: `out` if there is one, which is checked here."""

    def __init__(
        self, title: str, out: Array | None, shape: tuple[int, ...], dtype: np.dtype[Any], **inputs: Array
    ) -> None:
        if math.prod(shape) >= _MOST:
            raise ValueError(f"{title}: the result would have shape {shape}; expected fewer than 2^59 elements")
        check_out(title, out, shape, dtype, inputs)
        shares = out is not None and any(np.may_share_memory(out, array) for array in inputs.values())
        self.out, self.array = out, receiver(None if shares else out, shape, dtype)

    def planes(self) -> Array:
        """The array as kernels take it."""
        return planes(self.array)

    def stored(self) -> Array:
        """The result, now that it has been computed."""
        return stored(self.array, self.out)


def positions(title: str, indices: Any, shape: tuple[int, ...], **others: Array | None) -> Array:
    """Where the positions of maxima go: `indices` if there are any, which are checked here."""
    if indices is None:
        return np.empty(shape, np.int64)
    check_updated(title, "indices", indices, shape, np.dtype(np.int64))
    if not indices.flags.carray:
        raise ValueError(f"{title}: indices has strides {indices.strides}; expected a C-contiguous, aligned array")
    for name, other in others.items():
        if other is not None and overlap(other, indices):
            raise ValueError(f"{title}: indices overlaps {name} in memory; expected memory apart from it")
    found: Array = indices
    return found


def planes(array: Array) -> Array:
    """(N, C, *spatial) as (planes, depth, height, width), or with more axes."""
    shape = array.shape
    return array.reshape(shape[0] * shape[1], *(1,) * (5 - len(shape)), *shape[2:])


def run(kernel: str, source: Array, *args: Any) -> bool:
    """Call a kernel of the backend in force on planes; of no planes there is nothing to compute. What it returns."""
    return source.size == 0 or getattr(implementation("pooling"), kernel)(source, *args) is not False


# ---- what the functions for one, two and three axes have in common ----


def max_pool(
    dims: int,
    x: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: Any,
    return_indices: Any,
    indices: Array | None,
    out: Array | None,
) -> Pooled:
    title = f"max_pool{dims}d"
    x = checked_input(title, "x", x, dims)
    axes = windows(title, x.shape[2:], kernel_size, stride, padding, dilation, flag(title, "ceil_mode", ceil_mode))
    indexed = flag(title, "return_indices", return_indices) or indices is not None
    if indexed and x.dtype != np.float64:
        check_reach(title, axes)
    shape = (*x.shape[:2], *(axis.out for axis in axes))
    result = Result(title, out, shape, x.dtype, x=x)
    where = positions(title, indices, shape, x=x, out=out) if indexed else None
    run("max_windows", planes(plain(x)), result.planes(), None if where is None else planes(where), for_kernels(axes))
    return result.stored() if where is None else (result.stored(), where)


def check_reach(title: str, axes: tuple[Axis, ...]) -> None:
    """Kernels keep positions as 32 bits, from the window's first row on."""
    depth, height, width = three(axes)
    rows = ((depth.kernel - 1) * depth.dilation * height.inputs + (height.kernel - 1) * height.dilation) + 1
    if rows * width.inputs >= 1 << 32:
        raise ValueError(
            f"{title}: kernel_size is such that the rows of a window are {rows * width.inputs} elements long; expected "
            "less than 2^32 with return_indices, or x in float64"
        )


def max_backward(title: str, dims: int, dy: Any, indices: Any, x_shape: Any, out: Array | None) -> Array:
    shape = checked_shape(title, x_shape, dims)
    array = real_array(title, "dy", dy)
    if array.ndim != dims + 2 or array.shape[:2] != shape[:2]:
        raise ValueError(
            f"{title}: dy has shape {array.shape}; expected {_SPACE[dims]} with N and C of x_shape {shape}"
        )
    where = np.asarray(indices)
    if where.dtype.kind not in "iu":
        raise TypeError(f"{title}: indices has dtype {where.dtype}; expected int64, or another integer dtype")
    if where.shape != array.shape:
        raise ValueError(f"{title}: indices has shape {where.shape}; expected that of dy, {array.shape}")
    result = Result(title, out, shape, array.dtype, dy=array, indices=where)
    size = math.prod(shape[2:])
    if where.size == 0:
        result.array[...] = 0
        return result.stored()
    if out is None or _inside(where, size):
        places = plain(where.astype(np.int64, copy=False))
        if run("max_backward", planes(plain(array)), planes(places), result.planes()):
            return result.stored()
    raise ValueError(
        f"{title}: indices reach from {where.min()} to {where.max()}; expected places in a plane of {size} elements, "
        f"for x_shape is {shape}"
    )


def _inside(where: Array, size: int) -> bool:
    return bool(where.min() >= 0 and where.max() < size)


def _average_axes(
    title: str,
    spatial: tuple[int, ...],
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: Any,
    dilation: Any,
    counted: Any,
) -> tuple[tuple[Axis, ...], Any]:
    """The axes, and what the averages are divided by."""
    include = flag(title, "count_include_pad", counted)
    ceil = flag(title, "ceil_mode", ceil_mode)
    axes = windows(title, spatial, kernel_size, stride, padding, dilation, ceil, padding_counts=include)
    return axes, counts(axes, include)


# Windows that tile the input are the regions of an adaptive pooling too. Loops over windows take one lane a window,
# which pays while neighbouring windows are near each other; loops over regions add up whole rows first.
WIDE, WIDE_BACKWARD = 2, 8  # strides along the last axis up to which windows were measured to be faster


def _is_tiling(axes: tuple[Axis, ...]) -> bool:
    return all(
        (axis.kernel, axis.before, axis.after, axis.dilation, axis.stride * axis.out)
        == (axis.stride, 0, 0, 1, axis.inputs)
        for axis in axes
    )


def _tiles(axes: tuple[Axis, ...]) -> tuple[Bounds, Bounds]:
    return adaptive(tuple(axis.inputs for axis in axes), tuple(axis.out for axis in axes))


def avg_pool(
    dims: int,
    x: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: Any,
    count_include_pad: Any,
    dilation: Any,
    out: Array | None,
) -> Array:
    title = f"avg_pool{dims}d"
    x = checked_input(title, "x", x, dims)
    axes, divisors = _average_axes(
        title, x.shape[2:], kernel_size, stride, padding, ceil_mode, dilation, count_include_pad
    )
    result = Result(title, out, (*x.shape[:2], *(axis.out for axis in axes)), x.dtype, x=x)
    if _is_tiling(axes) and axes[-1].stride > WIDE:
        run("average_regions", planes(plain(x)), result.planes(), *_tiles(axes))
    else:
        run("average_windows", planes(plain(x)), result.planes(), for_kernels(axes), divisors)
    return result.stored()


def avg_pool_backward(
    dims: int,
    dy: Any,
    x_shape: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: Any,
    count_include_pad: Any,
    dilation: Any,
    out: Array | None,
) -> Array:
    title = f"avg_pool{dims}d_backward"
    shape = checked_shape(title, x_shape, dims)
    axes, divisors = _average_axes(
        title, shape[2:], kernel_size, stride, padding, ceil_mode, dilation, count_include_pad
    )
    dy = checked_gradient(title, dy, (*shape[:2], *(axis.out for axis in axes)))
    result = Result(title, out, shape, dy.dtype, dy=dy)
    if _is_tiling(axes) and axes[-1].stride > WIDE_BACKWARD:
        run("average_regions_backward", planes(plain(dy)), result.planes(), *_tiles(axes))
    else:
        run("average_windows_backward", planes(plain(dy)), result.planes(), for_kernels(axes), divisors)
    return result.stored()


def _even(spatial: tuple[int, ...], output: tuple[int, ...], widest: int) -> tuple[Axis, ...] | None:
    """The windows that the regions of adaptive pooling are where lengths divide and loops over windows are faster."""
    if any(length % out for length, out in zip(spatial, output, strict=True)) or spatial[-1] // output[-1] > widest:
        return None
    steps = [(length, out, length // out) for length, out in zip(spatial, output, strict=True)]
    return tuple([Axis(length, out, step, step, 0, 1, 0) for length, out, step in steps])


def adaptive_pool(dims: int, x: Any, output_size: Any, out: Array | None) -> Array:
    title = f"adaptive_avg_pool{dims}d"
    x = checked_input(title, "x", x, dims)
    spatial = x.shape[2:]
    given = (output_size,) * dims if output_size is None or not isinstance(output_size, Sequence) else output_size
    wanted = [length if size is None else size for size, length in zip(given, spatial, strict=False)]
    output = sizes(title, "output_size", (*wanted, *given[dims:]), dims, 1)
    result = Result(title, out, (*x.shape[:2], *output), x.dtype, x=x)
    even = _even(spatial, output, WIDE)
    if math.prod(output) == 1:
        run("average_whole", planes(plain(x)), result.array.reshape(-1))
    elif even is not None:
        run("average_windows", planes(plain(x)), result.planes(), for_kernels(even), counts(even, False))
    else:
        run("average_regions", planes(plain(x)), result.planes(), *adaptive(spatial, output))
    return result.stored()


def adaptive_backward(dims: int, dy: Any, x_shape: Any, out: Array | None) -> Array:
    title = f"adaptive_avg_pool{dims}d_backward"
    shape = checked_shape(title, x_shape, dims)
    dy = checked_input(title, "dy", dy, dims)
    if dy.shape[:2] != shape[:2]:
        raise ValueError(f"{title}: dy has shape {dy.shape}; expected {_SPACE[dims]} with N and C of x_shape {shape}")
    result = Result(title, out, shape, dy.dtype, dy=dy)
    spatial, output = shape[2:], dy.shape[2:]
    even = _even(spatial, output, WIDE_BACKWARD)
    if math.prod(output) == 1:
        run("average_whole_backward", plain(dy).reshape(-1), result.planes())
    elif even is not None:
        run("average_windows_backward", planes(plain(dy)), result.planes(), for_kernels(even), counts(even, False))
    else:
        run("average_regions_backward", planes(plain(dy)), result.planes(), *adaptive(spatial, output))
    return result.stored()
