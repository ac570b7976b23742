"""Quantized steps as C: bytes, whose channels are last in the session too, and exact sums in int32."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.infer.c.library import literal
from fastnn.infer.c.program import Value, as_loop, record
from fastnn.infer.c.writer import Writer
from fastnn.infer.graph import Shape, Step
from fastnn.infer.steps.quantized import regions, window_axes
from fastnn.infer.steps.quantized_products import Sliding


def _single(value: Any) -> str:
    return literal(float(np.float32(value)), "float")


def _range(w: Writer, step: Step) -> list[str]:
    """A line that says how sums become bytes."""
    zero, low, high = (step.options[name] for name in ("zero", "low", "high"))
    return [f"const {w.program.use('byte_range')} to = {{{zero}, {_single(low - zero)}, {_single(high - zero)}}};"]


def _bytes(w: Writer, shape: Shape, over: Value | None = None) -> Value:
    if over is not None and over.name in w.program.arrays:
        return Value(over.name, shape, "uint8")
    return w.program.new(shape, "uint8")


def _tables(w: Writer, step: Step, weight: Any) -> str:
    c = w.graph.of(step)
    named = (("w", weight), ("b", c["bias"]), ("m", c["multiplier"]))
    return ", ".join(w.program.constant(role, np.ascontiguousarray(array)) for role, array in named)


def _linear(w: Writer, step: Step) -> Value:
    weight = w.graph.of(step)["weight"]
    x, floats = w.input(step, False), step.dtype is None
    y = w.output(step.shape) if floats else _bytes(w, step.shape)
    rows, (outputs, inputs) = math.prod(step.shape[:-1]), weight.shape
    call, lines = w.program.use("last_linear_u8" if floats else "linear_u8"), [] if floats else _range(w, step)
    numbers = f"{rows}, {inputs}, {outputs}{'' if floats else ', to'}"
    w.add([*lines, f"{call}({x.name}, {y.name}, {_tables(w, step, weight)}, {numbers});"], x, y)
    return y


def _dynamic(w: Writer, step: Step) -> Value:
    c = w.graph.of(step)
    (outputs, inputs), rows = c["weight"].shape, math.prod(step.shape[:-1])
    x, y, room = w.input(step, False), w.output(step.shape), _bytes(w, (inputs,))
    sums = c["weight"].astype(np.int32).sum(1, dtype=np.int32)
    named = (("w", c["weight"]), ("sums", sums), ("scale", c["scale"]), ("b", c["bias"]))
    tables = ", ".join(w.program.constant(role, array) for role, array in named)
    ends = ((step.options["low"], -math.inf), (step.options["high"], math.inf))
    low, high = (_single(end if given is None else given) for given, end in ends)
    call, numbers = w.program.use("dynamic_linear_u8"), f"{rows}, {inputs}, {outputs}, {low}, {high}"
    w.add([f"{call}({x.name}, {y.name}, {room.name}, {tables}, {numbers});"], x, y, room)
    return y


def _conv(w: Writer, step: Step) -> Value:
    at, weight = Sliding(step), w.graph.of(step)["weight"]
    x, y = w.input(step, False), _bytes(w, step.shape)
    numbers = [at.channels, *at.size, at.outputs, at.rows, at.columns, *at.kernel]
    numbers += [*at.stride, *at.before, *at.dilation, at.groups, 1, at.channels]
    lines = [f"static const {w.program.use('conv_shape')} shape = {record(numbers)};", *_range(w, step)]
    if at.depthwise:
        weight, call, rooms = np.moveaxis(weight.reshape(at.outputs, *at.kernel), 0, -1), "depthwise_u8", []
    else:
        call, rooms = "conv_u8", [_bytes(w, (weight[0].size,))]
    names = ", ".join(value.name for value in (x, y, *rooms))
    call = f"{w.program.use(call)}({names}, {_tables(w, step, weight)}, &shape, {step.options['x_zero']}, to);"
    w.add([*lines, call], x, y, *rooms)
    return y


def _max(w: Writer, step: Step) -> Value:
    x, y = w.input(step, False), _bytes(w, step.shape)
    rows = ", ".join(record(axis[:6]) for axis in window_axes(step))
    call = f"{w.program.use('max_pool_u8')}({x.name}, {y.name}, {step.shape[-1]}, axes);"
    w.add([f"static const {w.program.use('pool_axis')} axes[] = {{{rows}}};", call], x, y)
    return y


def _average(w: Writer, step: Step) -> Value:
    x, y, given = w.input(step, False), _bytes(w, step.shape), step.options
    bounds, by = regions(step)
    table = np.concatenate([np.stack(pair, 1).ravel() for pair in bounds]).astype(np.int64)
    names = w.program.constant("bounds", table), w.program.constant("m", (given["multiplier"] / by).astype(np.float32))
    numbers = f"{step.shape[-1]}, {step.inputs_as[0][-2]}, {by.shape[0]}, {by.shape[1]}, {', '.join(names)}"
    call = f"{w.program.use('avg_pool_u8')}({x.name}, {y.name}, {numbers}, {given['x_zero']}, to);"
    w.add([*_range(w, step), call], x, y)
    return y


def _add(w: Writer, step: Step) -> Value:
    a, b, given = w.input(step, False), w.input(step, False, 1), step.options
    y = _bytes(w, step.shape, w.over(step, a))
    sum_ = f"{given['by_a']} * (int32_t){a.name}[i] + {given['by_b']} * (int32_t){b.name}[i] + {given['bias']}"
    call = f"{y.name}[i] = {w.program.use('requantized')}({sum_}, {_single(given['multiplier'])}, to);"
    w.add([*_range(w, step), *as_loop(y.size, call)], a, b, y)
    return y


def _lookup(w: Writer, step: Step) -> Value:
    x = w.input(step, False)
    y, table = _bytes(w, step.shape, w.over(step, x)), w.program.constant("table", w.graph.of(step)["table"])
    w.add(as_loop(y.size, f"{y.name}[i] = {table}[{x.name}[i]];"), x, y)
    return y


def _pad(w: Writer, step: Step) -> Value:
    x, y, given = w.input(step, False), _bytes(w, step.shape), step.options
    height, width, own = step.inputs_as[0]
    numbers = ", ".join(map(str, (own, given["channels"], height, width, given["stride"], given["fill"])))
    w.add([f"{w.program.use('padded_u8')}({x.name}, {y.name}, {numbers});"], x, y)
    return y


def _quantize(w: Writer, step: Step) -> Value:
    x, y = w.input(step, False), _bytes(w, step.shape)
    channels = step.inputs_as[0][0] if step.options["channels_last"] else 1
    by, zero = np.float32(1) / np.float32(step.options["scale"]), step.options["zero"]
    call = w.program.use("quantize_u8")
    w.add([f"{call}({x.name}, {y.name}, {channels}, {y.size // channels}, {_single(by)}, {zero});"], x, y)
    return y


def _dequantize(w: Writer, step: Step) -> Value:
    x, y = w.input(step, False), w.output(step.shape)
    channels = step.shape[0] if step.options["channels_last"] else 1
    numbers = f"{channels}, {y.size // channels}, {_single(step.options['scale'])}, {step.options['zero']}"
    w.add([f"{w.program.use('dequantize_u8')}({x.name}, {y.name}, {numbers});"], x, y)
    return y


STEPS: dict[str, Callable[[Writer, Step], Value]] = {
    "quantize": _quantize,
    "dequantize": _dequantize,
    "quantized_linear": _linear,
    "dynamic_linear": _dynamic,
    "quantized_conv": _conv,
    "quantized_max_pool": _max,
    "quantized_avg_pool": _average,
    "quantized_add": _add,
    "quantized_activation": _lookup,
    "quantized_pad": _pad,
}
