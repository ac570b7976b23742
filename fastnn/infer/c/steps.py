"""Steps as C: a function for every kind of step, which adds operations to a program.

Images lie with their channels last, so that compilers make vectors of channels; what runs along other axes, and the
caller's arrays, have the session's order. Products are summed in the session's order in either case.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from fastnn.broadcast import align_parameter
from fastnn.functions.convolution import geometry
from fastnn.infer.c import arrays, formulas, quantized
from fastnn.infer.c.library import literal
from fastnn.infer.c.program import Value, as_loop, record
from fastnn.infer.c.writer import BLOCK, Writer, in_blocks
from fastnn.infer.graph import Array, Step
from fastnn.infer.steps.convolution import sliding
from fastnn.infer.steps.pooling import plan
from fastnn.table.pooling_formulas import fractional_bounds

# ---- products ----


def _packed(weight: Array, groups: int) -> Array:
    """Weights (O, C / groups, kH, kW) as conv_f32 reads them: see library.c."""
    parts = []
    for group in np.split(weight, groups):
        for at in range(0, len(group), BLOCK):
            block = group[at : at + BLOCK]
            for first in range(0, block.shape[1], BLOCK):
                parts.append(block[:, first : first + BLOCK].transpose(2, 3, 1, 0).ravel())
    return np.concatenate(parts)


def _linear(w: Writer, step: Step) -> Value:
    c, given = w.graph.of(step), w.values[step.inputs[0]]
    outputs, inputs = c["weight"].shape
    # of blocks, whose memory it reads: a convolution with a kernel as large as the image
    weight = c["weight"].reshape(outputs, inputs, 1, 1)
    shape = [inputs, 1, math.prod(step.shape[:-1])]
    kernel, apart = [1, 1], [1, inputs]
    if given.blocked and step.inputs_as[0] != in_blocks(given.shape):
        channels, height, width = given.shape
        x, shape, kernel, apart = given, [*given.shape], [height, width], [1, channels]
        blocks = c["weight"].reshape(outputs, channels // BLOCK, height, width, BLOCK)
        weight = blocks.transpose(0, 1, 4, 2, 3).reshape(outputs, channels, height, width)
    else:
        x = w.input(step, False)
    y = w.output(step.shape)
    places = [1, 1] if kernel != [1, 1] else shape[1:]
    numbers = [*shape, outputs, *places, *kernel, 1, 1, 0, 0, 1, 1, 1, *apart]
    return _products(w, step, "conv", x, y, _packed(weight, 1), numbers)


def _products(w: Writer, step: Step, call: str, x: Value, y: Value, weight: Array, numbers: list[Any]) -> Value:
    """A convolution, what is added to it, and the activation."""
    bias = w.graph.of(step).get("bias")
    tables = w.program.constant("w", weight), w.optional(bias, numbers[3], 0, "b")
    w.add([f"static const {w.program.use('conv_shape')} shape = {record(numbers)};",
           f"{w.program.use(call)}({x.name}, {y.name}, {', '.join(tables)}, &shape);"], x, y)  # fmt: skip
    if len(step.inputs) > 1:
        added = w.image(step, 1)
        w.add(as_loop(y.size, f"{y.name}[i] += {added.name}[i];"), added, y)
    return w.activate(step, y)


def _conv(w: Writer, step: Step) -> Value:
    weight = w.graph.of(step)["weight"]
    axes = weight.ndim - 2
    x_shape, w_shape, y_shape, given = geometry("conv", (1, *step.inputs_as[0]), weight.shape, *sliding(step), axes)
    strides, before, dilations, groups = given
    weight, channels = weight.reshape(w_shape), x_shape[1]
    depthwise = groups == channels == y_shape[1]
    x, y = w.input(step, True if depthwise else None), w.output(step.shape, True)
    apart = (1, channels) if x.last else (math.prod(x_shape[2:]), 1)
    numbers = [*x_shape[1:], *y_shape[1:], *w_shape[2:], *strides, *before, *dilations, groups, *apart]
    if depthwise:
        return _products(w, step, "depthwise", x, y, weight[:, 0].transpose(1, 2, 0), numbers)
    return _products(w, step, "conv", x, y, _packed(weight, groups), numbers)


def _blocked_conv(w: Writer, step: Step) -> Value:
    given, weight = step.options, w.graph.of(step)["weight"]
    (channels, *lengths), kernel = given["x"], given["kernel"]
    weight = weight.reshape(*weight.shape[:2], *kernel)
    x = w.input(step) if given["planes"] else w.image(step)
    y = image = replace(w.output(given["y"], True), blocked=True)
    if "sums" in given:
        image = w.program.new(given["sums"], None, True)
    groups = channels if given["depthwise"] else given["groups"]
    apart = (1, channels) if x.last or channels == 1 else (math.prod(lengths), 1)
    numbers = [channels, *lengths, *image.shape, *kernel, *given["stride"], *given["before"], *given["dilation"]]
    if given["depthwise"]:
        _products(w, step, "depthwise", x, image, weight[:, 0].transpose(1, 2, 0), [*numbers, groups, *apart])
    else:
        _products(w, step, "conv", x, image, _packed(weight, groups), [*numbers, groups, *apart])
    if "sums" in given:  # of which y are the maxima over squares
        axes = [(1, 1, 1, 1, 0, 1), *((image.shape[k], y.shape[k], 2, 2, 0, 1) for k in (1, 2))]
        table = f"static const {w.program.use('pool_axis')} axes[] = {{{', '.join(map(record, axes))}}};"
        w.add([table, f"{w.program.use('max_pool')}({image.name}, {y.name}, {y.shape[0]}, axes);"], image, y)
    return y


def _block(w: Writer, step: Step) -> Value:
    """Nothing is done: arrays know how they lie."""
    value = w.input(step)
    return Value(value.name, step.options["x"], value.dtype, value.last, True)


def _unblock(w: Writer, step: Step) -> Value:
    value = w.input(step)
    return Value(value.name, step.shape, value.dtype, value.last)


# ---- windows ----


def _pool(w: Writer, step: Step) -> Value:
    found = plan(step, (1, *step.inputs_as[0]))
    x, y = w.input(step, True), w.output(step.shape, True)
    channels, kind = step.inputs_as[0][0], found.kernel
    three = (*(1,) * (4 - len(step.shape)), *step.shape[1:]), (*(1,) * (4 - len(x.shape)), *x.shape[1:])
    if kind == "average_whole":
        call = f"{w.program.use('global_avg_pool')}({x.name}, {y.name}, {channels}, {math.prod(x.shape[1:])});"
        w.add([call], x, y)
    elif kind == "average_regions":
        bounds = [np.stack([a[0], b[0]], 1).ravel() for a, b in zip(*found.arguments, strict=True)]
        table = w.program.constant("bounds", np.concatenate(bounds))
        wide = int(three[1][2] >= 16 * three[0][2])
        w.add([f"static const size_t lengths[] = {record([*three[1]])}, outs[] = {record([*three[0]])};",
               f"{w.program.use('adaptive_pool')}({x.name}, {y.name}, {channels}, lengths, outs, {table}, {wide});"],
              x, y)  # fmt: skip
    else:
        rows = ", ".join(record(axis) for axis in found.arguments[0].tolist())
        lines = [f"static const {w.program.use('pool_axis')} axes[] = {{{rows}}};"]
        if kind == "max_windows":
            lines.append(f"{w.program.use('max_pool')}({x.name}, {y.name}, {channels}, axes);")
        else:
            counts = found.arguments[1]
            table, even = w.program.constant("counts", np.concatenate(counts)), int(len(set(counts[2].tolist())) == 1)
            lines.append(f"{w.program.use('avg_pool')}({x.name}, {y.name}, {channels}, axes, {table}, {even});")
        w.add(lines, x, y)
    return y


def _blocked_pool(w: Writer, step: Step) -> Value:
    given, x = step.options, w.image(step)
    y = replace(w.output(given["y"], True), blocked=True)
    names = ("kernel", "stride", "before", "dilation")
    axes = [[given["x"][k + 1], given["y"][k + 1], *(given[name][k] for name in names)] for k in (0, 1)]
    kind, counts = w.program.use("pool_axis"), given.get("counts")
    rows = ", ".join(map(record, [*([[1, 1, 1, 1, 0, 1]] if counts is None else []), *axes]))
    lines = [f"static const {kind} axes[] = {{{rows}}};"]
    if counts is None:
        lines.append(f"{w.program.use('max_pool')}({x.name}, {y.name}, {given['x'][0]}, axes);")
    else:
        table = w.program.constant("counts", np.array([*counts[0], *counts[1]], np.float64))
        lines.append(f"{w.program.use('window_mean')}({x.name}, {y.name}, {given['x'][0]}, axes, {table});")
    w.add(lines, x, y)
    return y


def _fractional(w: Writer, step: Step) -> Value:
    x, y, given = w.input(step, False), w.output(step.shape), step.options
    channels, *spatial = step.inputs_as[0]
    flags = given["pseudo_random"], given["overlapping"], given["shared"]
    leading, sizes = (w.batch, channels), tuple(step.shape[1:])
    starts, stops = fractional_bounds(leading, tuple(spatial), sizes, given["seed"], 0, *flags)
    planes = max(len(each) for each in starts)
    parts = [np.stack([a, b], -1).reshape(len(a), -1) for a, b in zip(starts[1:], stops[1:], strict=True)]
    table = w.program.constant("bounds", np.concatenate([np.broadcast_to(p, (planes, p.shape[1])) for p in parts], 1))
    each = planes > 1
    at = f"{table} + sample * {planes // w.batch * 2 * sum(sizes)}" if each and w.batch > 1 else table
    numbers = ", ".join(map(str, (channels, *spatial, *sizes, int(each))))
    w.add([f"{w.program.use('region_max')}({x.name}, {y.name}, {at}, {numbers});"], x, y)
    return y


# ---- norms ----


def _batch_norm(w: Writer, step: Step) -> Value:
    c, channels = w.graph.of(step), step.shape[0]
    x, y = w.input(step, True), w.output(step.shape, True)
    with np.errstate(all="ignore"):
        root = (1.0 / np.sqrt(c["running_var"].astype(np.float64) + step.options["eps"])).astype(w.graph.dtype)
        scale = root if c.get("weight") is None else c["weight"] * root
    tables = w.program.constant("mean", c["running_mean"]), w.program.constant("scale", scale)
    beta = w.optional(c.get("bias"), channels, 0, "beta")
    places = math.prod(step.shape[1:])
    call = f"{w.program.use('batch_norm')}({x.name}, {y.name}, {', '.join(tables)}, {beta}, {channels}, {places});"
    w.add([call], x, y)
    return w.activate(step, y)


def _row_norm(w: Writer, step: Step) -> Value:
    c, x, y = w.graph.of(step), w.input(step, False), w.output(step.shape)
    if step.op in ("layer_norm", "rms_norm"):
        rows, n, run = math.prod(step.shape[: step.options["axis"]]), math.prod(step.shape[step.options["axis"] :]), 1
        gammas, gap = n, 0
    else:
        rows = step.options.get("groups", step.shape[0])
        run, n, gammas = math.prod(step.shape[1:]), math.prod(step.shape) // rows, step.shape[0]
        gap = gammas // rows
    gamma, beta = (w.optional(c.get(role), gammas, value, name)
                   for role, value, name in (("weight", 1, "gamma"), ("bias", 0, "beta")))  # fmt: skip
    call = w.program.use("row_norm")
    skip = f" + i * {gap}" if gap else ""
    given = step.options["eps"]
    eps = literal(float(np.finfo(w.graph.dtype).eps if given is None else given), "double")
    at = f"{x.name} + i * {n}, {y.name} + i * {n}, {n}, {gamma}{skip}, {beta}{skip}, {run}"
    w.add(as_loop(rows, f"{call}({at}, {eps}, {int(step.op != 'rms_norm')});"), x, y)
    return w.activate(step, y)


# ---- element by element ----


def _elementwise(w: Writer, step: Step) -> Value:
    a = w.input(step)
    y = w.output(a.shape, a.last, w.over(step, a))
    y = replace(y, blocked=a.blocked)
    if step.op == "activation":
        return _activation(w, step, a, y)
    if step.op == "add":
        b = w.input(step, a.last, 1)
        w.add(as_loop(a.size, f"{y.name}[i] = {a.name}[i] + {b.name}[i];"), a, b, y)
        return w.activate(step, y)
    then = {"multiply": f" * {w.number(step.options['by'])}", "divide": f" / {w.number(step.options['by'])}"}
    w.add(as_loop(a.size, f"{y.name}[i] = {a.name}[i]{then[step.op]};"), a, y)
    return y


def _activation(w: Writer, step: Step, x: Value, y: Value) -> Value:
    """By itself; a learned parameter may have a number for every channel or element."""
    assert step.activation is not None
    name, *given = step.activation
    function, c = w.program.use(formulas.activation(name, w.program.real)), list(w.graph.of(step).values())
    texts = [w.number(each) for each in given]
    if c:
        alpha = np.broadcast_to(align_parameter((1, *step.shape), c[0]), (1, *step.shape))[0]
        channels, places = step.shape[0], math.prod(step.shape[1:])
        by_channel = alpha.reshape(channels, places)
        if (by_channel == by_channel[:, :1]).all():
            table = w.program.constant("alpha", np.ascontiguousarray(by_channel[:, 0]))
            texts.append(f"{table}[i % {channels}]" if x.last else f"{table}[i / {places}]")
        else:
            ordered = np.moveaxis(alpha, 0, -1) if x.last else alpha
            texts.append(f"{w.program.constant('alpha', np.ascontiguousarray(ordered))}[i]")
    w.add(as_loop(x.size, f"{y.name}[i] = {function}({', '.join([f'{x.name}[i]', *texts])});"), x, y)
    return y


def _copy(w: Writer, step: Step) -> Value:
    x, y = w.input(step, False), w.output(step.shape)
    w.add(as_loop(x.size, f"{y.name}[i] = {x.name}[i];"), x, y)
    return y


def _pad(w: Writer, step: Step) -> Value:
    x, y = w.input(step, True), w.output(step.shape, True)
    (own, height, width), channels = step.inputs_as[0], step.shape[0]
    numbers = ", ".join(map(str, (own, channels, height, width, step.options["stride"])))
    w.add([f"{w.program.use('padded')}({x.name}, {y.name}, {numbers});"], x, y)
    return y


# ---- along an axis ----


def _along(w: Writer, step: Step) -> Value:
    x, y, shape = w.input(step, False), w.output(step.shape), step.inputs_as[0]
    axis = step.options["axis"] % (len(shape) + 1) - 1
    outer, length, inner = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
    if step.op in ("softmax", "log_softmax"):
        at = f"i / {inner} * {length * inner} + i % {inner}"
        numbers = f"{length}, {inner}, {int(step.op == 'log_softmax')}"
        call = f"{w.program.use('softmax')}({x.name} + {at}, {y.name} + {at}, {numbers});"
        w.add(as_loop(outer * inner, call), x, y)
    elif step.op == "maxout":
        pieces = step.options["pieces"]
        numbers = f"{outer * length // pieces}, {pieces}, {inner}"
        w.add([f"{w.program.use('maxout')}({x.name}, {y.name}, {numbers});"], x, y)
    else:
        w.add([f"{w.program.use(step.op)}({x.name}, {y.name}, {outer}, {length // 2 * inner});"], x, y)
    return y


STEPS: dict[str, Callable[[Writer, Step], Value]] = {
    "linear": _linear,
    "conv": _conv,
    **dict.fromkeys(("max_pool", "avg_pool", "adaptive_avg_pool", "global_avg_pool"), _pool),
    "fractional_max_pool2d": _fractional,
    "batch_norm": _batch_norm,
    **dict.fromkeys(("instance_norm", "group_norm", "layer_norm", "rms_norm"), _row_norm),
    **dict.fromkeys(("activation", "add", "multiply", "divide"), _elementwise),
    "copy": _copy,
    "pad": _pad,
    "blocked_conv": _blocked_conv,
    **dict.fromkeys(("blocked_max_pool", "blocked_avg_pool"), _blocked_pool),
    "block": _block,
    "unblock": _unblock,
    **dict.fromkeys(("softmax", "log_softmax", "glu", "swiglu", "maxout"), _along),
    **quantized.STEPS,
    **arrays.STEPS,
}
LAST_BITS = arrays.INEXACT | {"conv"}
"""Steps that differ from the session's in their last bits: plain convolutions are summed in parts there."""
