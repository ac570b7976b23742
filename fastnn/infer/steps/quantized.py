"""Quantized steps: uint8 values, channels last, int8 weights, exact sums.

kernels/reference/quantized.py has the formulas.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.infer.graph import Array, Shape, Step
from fastnn.infer.steps import quantized_products
from fastnn.infer.steps.kind import Call, Constants
from fastnn.infer.steps.quantized_kind import (
    F32,
    U8,
    Place,
    byte,
    call,
    constant,
    finish,
    kind,
    result,
    scale,
    three_bytes,
)
from fastnn.windows import Axis, adaptive, counts, three, windows

# ---- pools ----


def window_axes(step: Step) -> tuple[Axis, Axis]:
    """The windows of two spatial axes."""
    shape, given = step.inputs_as[0], step.options
    if len(shape) not in (2, 3):
        raise ValueError(f"{step.op}: x has shape {('N', *shape)}; expected (N, H, W, C) or (N, L, C)")
    last = given["dilation"], given["ceil_mode"]
    found = windows(
        step.op, shape[:-1], given["kernel_size"], given["stride"], given["padding"], *last,
        padding_counts=given.get("count_include_pad", False),
    )  # fmt: skip
    return three(found)[-2:]  # type: ignore[return-value]


def _images(step: Step, batch: int, shape: Shape) -> Shape:
    """A shape with two spatial axes."""
    return (batch, *(1,) * (3 - len(shape)), *shape)


def _check_max(step: Step, c: Constants) -> None:
    height, width = window_axes(step)
    result(step, (*(height.out, width.out)[3 - len(step.inputs_as[0]) :], step.inputs_as[0][-1]))


def _max(place: Place) -> Call:
    step = place.step
    height, width = window_axes(step)
    pairs = [(getattr(height, name), getattr(width, name)) for name in ("kernel", "stride", "before", "dilation")]
    shapes = _images(step, place.batch, step.inputs_as[0]), _images(step, place.batch, step.shape)
    return call("max_pool", [place.x(0, shapes[0]), place.y(shapes[1])], shapes, *pairs)


def regions(step: Step) -> tuple[list[tuple[Array, Array]], Array]:
    """Where the regions of an average pool begin and end, on two axes, and by what each mean divides (oH, oW)."""
    spatial = step.inputs_as[0][:-1]
    if step.options.get("output_size") is None:
        axes = window_axes(step)
        if any(axis.dilation != 1 for axis in axes):
            raise ValueError(f"{step.op}: dilation is {step.options['dilation']}; expected 1")
        bounds = [
            (np.clip(axis.first(), 0, axis.inputs), np.clip(axis.first() + axis.kernel, 0, axis.inputs))
            for axis in axes
        ]
        by = counts(axes, step.options["count_include_pad"])[-2:]
    else:
        starts, stops = adaptive(spatial, tuple(step.options["output_size"]))
        bounds = [(start[0], stop[0]) for start, stop in zip(starts[-2:], stops[-2:], strict=True)]
        by = tuple(np.asarray(stop - start, float) for start, stop in bounds)
    return [(a.astype(np.int32), b.astype(np.int32)) for a, b in bounds], np.outer(*by)


def _check_average(step: Step, c: Constants) -> None:
    shape, size = step.inputs_as[0], step.options.get("output_size")
    if len(shape) not in (2, 3) or math.prod(shape[:-1]) >= 1 << 23:
        raise ValueError(f"{step.op}: x has shape {('N', *shape)}; expected (N, H, W, C) of less than 2^23 pixels")
    if size is not None and (len(size) != len(shape) - 1 or any(type(n) is not int or n < 1 for n in size)):
        raise ValueError(f"{step.op}: output_size is {size!r}; expected whole numbers, one for each axis")
    by = regions(step)[1]
    finish(step)
    byte(step, "x_zero")
    scale(step, "multiplier")
    spatial = () if step.options["whole"] else by.shape[3 - len(shape) :]
    if step.options["whole"] and by.size != 1:
        raise ValueError(f"{step.op}: output_size is {size!r}; expected one mean of the whole")
    result(step, (*spatial, shape[-1]))


def _average(place: Place) -> Call:
    step = place.step
    (rows, columns), by = regions(step)
    multiplier = np.ascontiguousarray(step.options["multiplier"] / by, np.float32)
    shapes = _images(step, place.batch, step.inputs_as[0]), (place.batch, *by.shape, step.shape[-1])
    given = rows, columns, multiplier, step.options["x_zero"], *three_bytes(step)
    return call("average_pool", [place.x(0, shapes[0]), place.y(shapes[1])], shapes, *given)


# ---- element by element ----


def _check_add(step: Step, c: Constants) -> None:
    if step.inputs_as[0] != step.inputs_as[1]:
        raise ValueError(f"body and shortcut make {step.inputs_as[0]} and {step.inputs_as[1]}; expected the same")
    for name, most in (("by_a", 1 << 15), ("by_b", 1 << 15), ("bias", 1 << 24)):
        number = step.options[name]
        if type(number) is not int or not -most < number < most:
            raise ValueError(f"{step.op}: {name} is {number!r}; expected an int, less than {most} in magnitude")
    finish(step)
    scale(step, "multiplier")
    result(step, step.inputs_as[0])


def _add(place: Place) -> Call:
    given, shape = place.step.options, (place.batch, *place.step.shape)
    numbers = [given[name] for name in ("by_a", "by_b", "bias", "multiplier")]
    return call("add", [place.x(0), place.x(1), place.y()], (shape,) * 3, *numbers, *three_bytes(place.step))


def _check_lookup(step: Step, c: Constants) -> None:
    constant(step, c, "table", U8, (256,))
    result(step, step.inputs_as[0])


def _lookup(place: Place) -> Call:
    shape = (place.batch, *place.step.shape)
    return call("lookup", [place.x(), place.y()], (shape, shape), place.constants["table"])


def _check_pad(step: Step, c: Constants) -> None:
    channels, stride = step.options["channels"], step.options["stride"]
    if len(step.inputs_as[0]) != 3 or step.inputs_as[0][-1] > channels or stride < 1:
        raise ValueError(f"{step.op}: x has shape {step.inputs_as[0]}; expected (H, W, C), C at most {channels}")
    byte(step, "fill")
    height, width, _ = step.inputs_as[0]
    result(step, (-(-height // stride), -(-width // stride), channels))


def _pad(place: Place) -> Call:
    given = place.step.options
    shapes = (place.batch, *place.step.inputs_as[0]), (place.batch, *place.step.shape)
    return call("window", [place.x(), place.y()], shapes, 0, 0, given["stride"], given["fill"])


# ---- from and to floats ----


def _moved(step: Step, shape: Shape) -> Shape:
    """The shape of the floats with the channels at the end, where that is wanted."""
    return (*shape[1:], shape[0]) if step.options["channels_last"] else shape


def _check_quantize(step: Step, c: Constants) -> None:
    byte(step, "zero")
    scale(step, "scale")
    result(step, _moved(step, step.inputs_as[0]))


def _check_dequantize(step: Step, c: Constants) -> None:
    byte(step, "zero")
    scale(step, "scale")
    shape = step.inputs_as[0]
    result(step, (shape[-1], *shape[:-1]) if step.options["channels_last"] else shape, None)


def _quantize(place: Place) -> Call:
    return _converted(
        place, "quantize", place.step.inputs_as[0], float(np.float32(1) / np.float32(place.step.options["scale"]))
    )


def _dequantize(place: Place) -> Call:
    return _converted(place, "dequantize", place.step.shape, place.step.options["scale"])


def _converted(place: Place, name: str, floats: Shape, by: float) -> Call:
    batch, size = place.batch, math.prod(floats)
    channels = floats[0] if place.step.options["channels_last"] else 1
    shapes = (batch, channels, size // channels), (batch, size // channels, channels)
    first, second = shapes if name == "quantize" else shapes[::-1]
    arrays = [place.x(0, first), place.y(second)]
    return call(name, arrays, (first, second), by, place.step.options["zero"])


KINDS = {
    "quantize": kind(_check_quantize, _quantize),
    "dequantize": kind(_check_dequantize, _dequantize),
    **quantized_products.KINDS,
    "quantized_max_pool": kind(_check_max, _max),
    "quantized_avg_pool": kind(_check_average, _average),
    "quantized_add": kind(_check_add, _add, takes=2, in_place=True),
    "quantized_activation": kind(_check_lookup, _lookup, in_place=True),
    "quantized_pad": kind(_check_pad, _pad),
}


def takes(op: str, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of a step's inputs, in a session of `dtype`."""
    return U8 if op in KINDS and op not in ("quantize", "dynamic_linear") else F32 if op in KINDS else dtype
