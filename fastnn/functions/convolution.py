"""The public functions of the family `convolution`."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from sys import modules
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastnn import functional
from fastnn.arguments import (
    Array,
    check_out,
    check_updated,
    check_written,
    common_array,
    parameter_dtype,
    plain,
    real_array,
    receiver,
    stored,
)
from fastnn.arrays import empty, is_array, together
from fastnn.dispatch import implementation
from fastnn.function import public
from fastnn.fusion import Activation, fused, known
from fastnn.gradients import Gradients, checked_saved
from fastnn.sliding import Padding, padding_per_axis, per_axis, window_count, within
from fastnn.table.convolution import AXES, ROWS

__all__ = [row.name for row in ROWS]

_ROW = {row.name: row for row in ROWS}
_NAMES = {axes: names.split(", ") for axes, names in AXES.items()}
_PLAIN = frozenset(map(np.dtype, ("float32", "float64")))  # as they are in native byte order
Sizes = int | Sequence[int]


class _Convolution(NamedTuple):
    """Checked arguments: arrays of one dtype, (N, C, H, W), and what the kernels take beside them."""

    x: Array
    weight: Array
    options: tuple[tuple[int, int], tuple[int, int], tuple[int, int], int]  # stride, padding before, dilation, groups
    y_shape: tuple[int, int, int, int]


def _same_dtype(title: str, names: Sequence[str], values: Sequence[Any]) -> list[Array]:
    """The arrays in their one float dtype; integers and bools take that of the others."""
    first = values[0].dtype if type(values[0]) is np.ndarray else None
    if first in _PLAIN and all(type(value) is np.ndarray and value.dtype is first for value in values):
        return list(values)
    found = [value.dtype for value in values if is_array(value)]
    arrays = common_array(title, names, values)
    if len({dtype for dtype in found if dtype.kind not in "biu"}) > 1:
        pairs = zip(names, values, strict=True)
        described = ", ".join(f"{name} has dtype {value.dtype}" for name, value in pairs if hasattr(value, "dtype"))
        raise TypeError(f"{title}: {described}; expected one dtype: convert with astype")
    return arrays


def _exact(option: Any) -> bool:
    """Is it an int, a string, or a tuple of ints? Those are equal only if they mean the same."""
    return type(option) in (int, str) or (type(option) is tuple and all(type(item) is int for item in option))


def _checked(
    title: str, x: Array, weight: Array, stride: Any, padding: Any, dilation: Any, groups: Any, axes: int
) -> _Convolution:
    """Everything about shapes and options, and the arrays with two spatial axes."""
    options = (stride, padding, dilation, groups)
    found = _kept_geometry if all(map(_exact, options)) else geometry
    x_shape, weight_shape, y_shape, steps = found(title, x.shape, weight.shape, *options, axes)
    x, weight = plain(x), plain(weight)
    return _Convolution(
        x if axes == 2 else x.reshape(x_shape), weight if axes == 2 else weight.reshape(weight_shape), steps, y_shape
    )


def geometry(
    title: str,
    x_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    axes: int,
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, int, int, int], Any]:
    """The shapes of x, weight and y with two spatial axes, and the options as kernels take them."""
    for name, shape in (("x", x_shape), ("weight", weight_shape)):
        if len(shape) != axes + 2:
            layout = f"({'N, C' if name == 'x' else 'O, C / groups'}, {AXES[axes]})"
            raise ValueError(f"{title}: {name} has shape {shape}; expected {axes + 2} axes, {layout}")
    (count,) = per_axis(title, "groups", groups, 1)
    (channels, *lengths), (outputs, inner, *kernel) = x_shape[1:], weight_shape
    if channels % count or outputs % count:
        raise ValueError(
            f"{title}: groups is {count}; expected a divisor of x's {channels} channels and of weight's {outputs}"
        )
    if inner * count != channels:
        raise ValueError(
            f"{title}: weight has shape {weight_shape}, which is for {inner * count} input channels in {count} "
            f"group{'s' * (count != 1)}; x has shape {x_shape}, with {channels}"
        )
    if 0 in kernel:
        raise ValueError(f"{title}: weight has shape {weight_shape}; expected a kernel of at least one element")
    steps = per_axis(title, "stride", stride, axes)
    spread = per_axis(title, "dilation", dilation, axes)
    pairs = padding_per_axis(title, padding, lengths, kernel, steps, spread)
    options, sizes = [], []
    for index, axis in enumerate(_NAMES[axes]):
        length, size, pair = lengths[index], kernel[index], pairs[index]
        sizes.append(window_count(title, axis, length, size, steps[index], spread[index], pair))
        step, gap = within(length + pair[0] + pair[1], size, steps[index], spread[index])
        options.append((step, pair[0], gap))
    if axes == 1:  # a convolution over a single row
        options.insert(0, (1, 0, 1))
        sizes.insert(0, 1)
    (row_step, top, row_gap), (col_step, left, col_gap) = options
    ones = (1,) * (2 - axes)
    return (
        (x_shape[0], channels, *ones, *lengths),
        (outputs, inner, *ones, *kernel),
        (x_shape[0], outputs, sizes[0], sizes[1]),
        ((row_step, col_step), (top, left), (row_gap, col_gap), count),
    )


_kept_geometry = functools.lru_cache(maxsize=1024)(geometry)


def _bias(title: str, bias: Any, dtype: np.dtype[Any], outputs: int) -> Array | None:
    if bias is None:
        return None
    computed = parameter_dtype(dtype)
    if type(bias) is np.ndarray and bias.dtype is computed and bias.shape == (outputs,):
        return plain(bias)
    array = plain(real_array(title, "bias", bias))
    if array.shape != (outputs,):
        raise ValueError(f"{title}: bias has shape {array.shape}; expected {(outputs,)}, one number per output channel")
    with np.errstate(over="ignore"):
        return array.astype(computed, copy=False)


def _forward(
    title: str,
    axes: int,
    x: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    activation: Activation,
    z: Array | None,
    out: Array | None,
) -> Array:
    if "cupy" in modules:
        together(title, x=x, weight=weight, bias=bias, z=z, out=out)
    x, weight = _same_dtype(title, ("x", "weight"), (x, weight))
    made = _checked(title, x, weight, stride, padding, dilation, groups, axes)
    offset = _bias(title, bias, x.dtype, weight.shape[0])
    chosen = None if activation is None else known(activation, x.dtype) or fused(title, activation, x.dtype)
    shape = (*made.y_shape[:2], *made.y_shape[4 - axes :])
    if out is not None:
        check_out(title, out, shape, x.dtype, {})
    if z is not None:
        check_updated(title, "z", z, shape, x.dtype)
    if out is not None or z is not None:
        check_written(title, {"out": out, "z": z}, {"x": x, "weight": weight, "bias": offset})
    result, before = receiver(out, shape, x.dtype, x), None if z is None else receiver(z, shape, x.dtype, x)
    if result.size:
        name, params = (None, ()) if chosen is None else chosen
        y, inner = result.reshape(made.y_shape), None if before is None else before.reshape(made.y_shape)
        implementation("convolution", x).forward(made.x, made.weight, offset, y, *made.options, name, params, inner)
    if before is not None:
        stored(before, z)
    return stored(result, out)


def _backward(
    axes: int,
    dy: Any,
    x: Any,
    weight: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    saved: Any,
    activation: Activation,
    gradients: Gradients,
) -> tuple[Array | None, Array | None, Array | None]:
    title = gradients.title
    if "cupy" in modules:
        together(title, dy=dy, x=x, weight=weight, saved=saved, **gradients.given)
    dy, x, weight = _same_dtype(title, ("dy", "x", "weight"), (dy, x, weight))
    made = _checked(title, x, weight, stride, padding, dilation, groups, axes)
    dtype, number = x.dtype, parameter_dtype(x.dtype)
    shape = (*made.y_shape[:2], *made.y_shape[4 - axes :])
    if dy.shape != shape:
        raise ValueError(f"{title}: dy has shape {dy.shape}; expected that of the convolution's result, {shape}")
    chosen = None if activation is None else known(activation, dtype) or fused(title, activation, dtype)
    before = checked_saved(title, saved, chosen, shape, dtype)
    like = {"dx": (x.shape, dtype), "dweight": (weight.shape, dtype), "dbias": (weight.shape[:1], number)}
    gradients.prepare({**like, "dz": (shape, number)}, {"dy": dy, "x": x, "weight": weight, **before})
    arrays = gradients.arrays
    if chosen is not None:
        if number != dtype:  # dz is of the dtype computed in, and so is all that kernels meet beside it
            made = made._replace(x=made.x.astype(number), weight=made.weight.astype(number))
            dy, before = dy.astype(number), {"saved": before["saved"].astype(number)}
            gradients.arrays = arrays = {k: None if a is None else a.astype(number) for k, a in arrays.items()}
        slope: Any = getattr(functional, f"{chosen.name}_backward")
        dz = empty(x, shape, number) if arrays["dz"] is None else arrays["dz"]
        slope(dy, before["saved"], *chosen.params, out=dz)
        dy = dz
    _run(plain(dy).reshape(made.y_shape), made, arrays, gradients.accumulate)
    if chosen is None or number == dtype:
        return gradients.results(z=chosen is not None)
    with np.errstate(over="ignore"):
        dx, dweight, dbias = gradients.results(z=True)
        return (
            None if dx is None else dx.astype(dtype, copy=False),
            None if dweight is None else dweight.astype(dtype, copy=False),
            dbias,
        )


def _run(dy: Array, made: _Convolution, to: dict[str, Array | None], accumulate: bool) -> None:
    kernels, (dx, dweight, dbias) = implementation("convolution", dy), (to["dx"], to["dweight"], to["dbias"])
    if dx is not None:
        if dy.size and dx.size:
            kernels.input_gradient(dy, made.weight, dx.reshape(made.x.shape), *made.options)
        else:
            dx[...] = 0
    if dweight is not None:
        if dy.size and made.x.size:
            kernels.weight_gradient(dy, made.x, dweight.reshape(made.weight.shape), *made.options, accumulate)
        elif not accumulate:
            dweight[...] = 0
    if dbias is not None:
        if dy.size:
            kernels.bias_gradient(dy, dbias, accumulate)
        elif not accumulate:
            dbias[...] = 0


@public(_ROW["conv2d"])
def conv2d(
    x: npt.ArrayLike,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    activation: Activation = None,
    *,
    z: Array | None = None,
    out: Array | None = None,
) -> Array:
    return _forward("conv2d", 2, x, weight, bias, stride, padding, dilation, groups, activation, z, out)


@public(_ROW["conv2d_backward"])
def conv2d_backward(
    dy: npt.ArrayLike,
    x: npt.ArrayLike,
    weight: npt.ArrayLike,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    saved: npt.ArrayLike | None = None,
    activation: Activation = None,
    *,
    need_dx: bool = True,
    need_dweight: bool = True,
    need_dbias: bool = True,
    accumulate: bool = False,
    dx: Array | None = None,
    dweight: Array | None = None,
    dbias: Array | None = None,
    dz: Array | None = None,
) -> tuple[Array | None, Array | None, Array | None]:
    made = Gradients(
        "conv2d_backward",
        need_dx=need_dx,
        need_dweight=need_dweight,
        need_dbias=need_dbias,
        accumulate=accumulate,
        dx=dx,
        dweight=dweight,
        dbias=dbias,
        dz=dz,
    )
    return _backward(2, dy, x, weight, stride, padding, dilation, groups, saved, activation, made)


@public(_ROW["conv1d"])
def conv1d(
    x: npt.ArrayLike,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    activation: Activation = None,
    *,
    z: Array | None = None,
    out: Array | None = None,
) -> Array:
    return _forward("conv1d", 1, x, weight, bias, stride, padding, dilation, groups, activation, z, out)


@public(_ROW["conv1d_backward"])
def conv1d_backward(
    dy: npt.ArrayLike,
    x: npt.ArrayLike,
    weight: npt.ArrayLike,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    saved: npt.ArrayLike | None = None,
    activation: Activation = None,
    *,
    need_dx: bool = True,
    need_dweight: bool = True,
    need_dbias: bool = True,
    accumulate: bool = False,
    dx: Array | None = None,
    dweight: Array | None = None,
    dbias: Array | None = None,
    dz: Array | None = None,
) -> tuple[Array | None, Array | None, Array | None]:
    made = Gradients(
        "conv1d_backward",
        need_dx=need_dx,
        need_dweight=need_dweight,
        need_dbias=need_dbias,
        accumulate=accumulate,
        dx=dx,
        dweight=dweight,
        dbias=dbias,
        dz=dz,
    )
    return _backward(1, dy, x, weight, stride, padding, dilation, groups, saved, activation, made)
