"""Quantized linear layers and convolutions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.dispatch import implementation
from fastnn.functions.convolution import geometry
from fastnn.infer.graph import Array, Shape, Step
from fastnn.infer.steps.kind import Call, Constants, Room
from fastnn.infer.steps.quantized_kind import (
    F32,
    I32,
    MOST,
    U8,
    Place,
    byte,
    call,
    check_sums,
    constant,
    finish,
    kind,
    multiplier,
    product,
    result,
    sums_fit,
    three_bytes,
)
from fastnn.kernels import int8_weights


def _pack(place: Place, weight: Array, segments: int, groups: int = 1) -> list[Array]:
    """The weights of each group, packed, kept under their name."""
    name = place.step.constants["weight"]
    found = []
    for group, part in enumerate(np.split(weight.reshape(len(weight), segments, -1), groups)):
        key = f"{name}/{group}"
        if key not in place.packed:
            place.packed[key] = int8_weights.pack(part)
        found.append(place.packed[key])
    return found


def _check_linear(step: Step, c: Constants) -> None:
    check_sums(step, c)
    weight = c["weight"]
    if weight.ndim != 2 or step.inputs_as[0][-1:] != weight.shape[1:]:
        raise ValueError(f"{step.op}: weight has shape {weight.shape}; x has shape {('N', *step.inputs_as[0])}")
    finish(step)
    multiplier(step, c, len(weight))
    result(step, (*step.inputs_as[0][:-1], len(weight)), step.dtype and "uint8")


def _linear(place: Place) -> Call:
    step, c = place.step, place.constants
    outputs, inputs = c["weight"].shape
    rows = place.batch * math.prod(step.shape[:-1])
    (weight,) = _pack(place, c["weight"], 1)
    shapes, none = ((rows, inputs), (rows, 1, outputs)), np.zeros(1, np.int32)
    arrays = [place.x(0, shapes[0]), place.y(shapes[1])]
    fixed = None, none, weight, c["bias"], c["multiplier"], 0, three_bytes(step)
    return product(arrays, shapes, U8 if step.dtype else F32, *fixed)


class Sliding:
    """The geometry of a convolution: x (H, W, C), weight (O, kH, kW, C / groups)."""

    def __init__(self, step: Step) -> None:
        shape, given, axes = step.inputs_as[0], step.options, len(step.inputs_as[0]) - 1
        if axes not in (1, 2):
            raise ValueError(f"{step.op}: x has shape {('N', *shape)}; expected (N, H, W, C) or (N, L, C)")
        first = given["outputs"], shape[-1] // given["groups"], *given["kernel_size"]
        x, weight, y, options = geometry(
            step.op, (1, shape[-1], *shape[:-1]), first, given["stride"], given["padding"], given["dilation"],
            given["groups"], axes,
        )  # fmt: skip
        self.stride, self.before, self.dilation, self.groups = options
        self.outputs, self.inner, *self.kernel = weight
        self.channels, *self.size = x[1:]
        self.rows, self.columns = y[2:]
        self.shape: Shape = (*(y[2:] if axes == 2 else y[3:]), self.outputs)
        spans = [
            (o - 1) * s + (k - 1) * d + 1
            for o, s, k, d in zip(y[2:], self.stride, self.kernel, self.dilation, strict=True)
        ]
        self.padded = [max(n + b, span) for n, b, span in zip(self.size, self.before, spans, strict=True)]
        self.depthwise = self.groups == self.channels == self.outputs > 1

    @property
    def pads(self) -> bool:
        """Does it need a copy of the image with a margin?"""
        return self.padded != self.size


def _check_conv(step: Step, c: Constants) -> None:
    check_sums(step, c)
    at = Sliding(step)
    if c["weight"].shape != (want := (at.outputs, *at.kernel[3 - len(step.inputs_as[0]) :], at.inner)):
        raise ValueError(f"{step.op}: weight has shape {c['weight'].shape}; expected {want}")
    byte(step, "x_zero")
    finish(step)
    multiplier(step, c, at.outputs)
    if math.prod(at.padded) * at.channels > MOST:
        raise ValueError(f"{step.op}: the padded image is {at.padded}; expected at most {MOST} elements")
    result(step, at.shape)


def _conv_rooms(step: Step, wide: Any) -> list[Room]:
    """The padded image."""
    at = Sliding(step)
    return [((*at.padded, at.channels), U8)] if at.pads else []


def _conv(place: Place) -> list[Call]:
    step, c, batch = place.step, place.constants, place.batch
    at, zero, finish = Sliding(step), step.options["x_zero"], three_bytes(step)
    shape, out = (batch, *at.size, at.channels), (batch, at.rows, at.columns, at.outputs)
    calls, size, room = [], at.size, None
    if at.pads:  # with a margin nothing need be asked of any pixel
        size, room = at.padded, place.rooms[0]
        calls.append(call("window", [place.x(0, shape), room], (shape, room.shape), *at.before, 1, zero))
        shape = room.shape
    if at.depthwise:
        key = step.constants["weight"]
        if key not in place.packed:
            place.packed[key] = np.ascontiguousarray(np.moveaxis(c["weight"].reshape(at.outputs, *at.kernel), 0, -1))
        given = place.packed[key], c["bias"], c["multiplier"], at.stride, (0, 0), at.dilation, zero, *finish
        x = place.x(0, shape) if room is None else room
        return [*calls, call("depthwise", [x, place.y(out)], (shape, out), *given)]
    shapes = (batch, math.prod(size) * at.channels), (batch, at.rows * at.columns, at.outputs)
    x = place.x(0, shapes[0]) if room is None else room.reshape(shapes[0])
    i, j = np.arange(at.rows) * at.stride[0] * size[1], np.arange(at.columns) * at.stride[1]
    starts = ((i[:, None] + j).reshape(-1) * at.channels).astype(np.int32)
    taps = np.arange(at.kernel[0])[:, None] * at.dilation[0] * size[1] * at.channels
    if at.dilation[1] != 1 or at.groups > 1:  # else the pixels of a row of the kernel are neighbours
        taps = taps + np.arange(at.kernel[1]) * at.dilation[1] * at.channels
    each = at.outputs // at.groups
    for group, weight in enumerate(_pack(place, c["weight"], taps.size, at.groups)):
        part = slice(group * each, (group + 1) * each)
        segments = (taps.reshape(-1) + group * at.inner).astype(np.int32)
        fixed = starts, segments, weight, c["bias"][part], c["multiplier"][part], group * each, finish
        calls.append(product([x, place.y(shapes[1])], shapes, U8, *fixed))
    return calls


def _check_dynamic(step: Step, c: Constants) -> None:
    weight = c["weight"]
    if weight.dtype != np.int8 or weight.ndim != 2 or step.inputs_as[0][-1:] != weight.shape[1:]:
        raise ValueError(
            f"{step.op}: weight is {weight.dtype} of shape {weight.shape}; x has shape {step.inputs_as[0]}"
        )
    for role in ("scale", "bias"):
        if not np.isfinite(constant(step, c, role, F32, (len(weight),))).all():
            raise ValueError(f"{step.op}: {role} is not finite")
    if not sums_fit(weight, np.zeros(len(weight), np.int64)):
        raise ValueError(f"{step.op}: {weight.shape[1]} products with bytes may leave int32")
    low, high = step.options["low"], step.options["high"]
    if not all(each is None or type(each) is float for each in (low, high)):
        raise ValueError(f"{step.op}: low and high are {low!r} and {high!r}; expected floats, or None")
    result(step, (*step.inputs_as[0][:-1], len(weight)), None)


def _dynamic_rooms(step: Step, wide: Any) -> list[Room]:
    rows = step.shape[:-1]
    return [(step.inputs_as[0], U8), (step.shape, I32), (rows, F32), (rows, I32)]


def _dynamic(place: Place) -> Call:
    step, c = place.step, place.constants
    outputs, inputs = c["weight"].shape
    rows = place.batch * math.prod(step.shape[:-1])
    (weight,) = _pack(place, c["weight"], 1)
    sums = c["weight"].astype(np.int32).sum(1, dtype=np.int32)
    shapes = (rows, inputs), (rows, 1, outputs), (rows,), (rows,)
    rooms = [room.reshape(shape) for room, shape in zip(place.rooms, shapes, strict=True)]
    none = np.zeros(outputs, np.int32), np.zeros(1, np.int32)
    bounds = [
        end if given is None else given
        for given, end in ((step.options["low"], -math.inf), (step.options["high"], math.inf))
    ]
    fixed = weight, *none, sums, c["scale"], c["bias"], *bounds
    return _dynamic_product, [
        implementation("quantized"),
        place.x(0, (rows, inputs)),
        place.y((rows, outputs)),
        rooms,
        fixed,
    ]


def _dynamic_product(kernels: Any, x: Array, y: Array, rooms: list[Array], fixed: tuple[Any, ...]) -> None:
    q, acc, scale, zero = rooms
    weight, bias, segments, sums, weight_scale, *rest = fixed
    kernels.quantize_rows(x, q, scale, zero)
    kernels.matmul(q, None, segments, weight, bias, None, acc, 0, 0, 0, 0)
    kernels.finish_rows(acc[:, 0], scale, zero, sums, weight_scale, rest[0], y, *rest[1:])


KINDS = {
    "quantized_linear": kind(_check_linear, _linear),
    "dynamic_linear": kind(_check_dynamic, _dynamic, _dynamic_rooms),
    "quantized_conv": kind(_check_conv, _conv, _conv_rooms),
}
