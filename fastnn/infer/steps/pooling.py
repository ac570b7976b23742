"""Maxima and averages over windows and regions."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.dispatch import implementation
from fastnn.infer.graph import Shape, Step
from fastnn.infer.steps.kind import Call, Constants, Function, Kind, Room, Site, functions
from fastnn.pooled import Plan, adaptive_plan, average_plan, global_plan, max_plan, window_options

_WINDOW = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
_OPTIONS = {"max_pool": _WINDOW, "avg_pool": (*_WINDOW[:3], "ceil_mode", "count_include_pad")}


def _function(step: Step, c: Constants) -> Function:
    options = step.options
    if any(missing := _OPTIONS.get(step.op, options.keys()) - options.keys()):
        raise ValueError(f"{step.op}: there is no {', '.join(sorted(missing))} among its options")
    axes = "" if step.op == "global_avg_pool" else f"{len(step.inputs_as[0]) - 1}d"
    call = getattr(functions, step.op + axes, None)
    if call is None:
        raise ValueError(f"{step.op}: x has shape {('N', *step.inputs_as[0])}; expected 1 to 3 spatial axes")
    return lambda x, out=None: call(x, **step.options, out=out)


def plan(step: Step, shape: Shape) -> Plan:
    """The kernel of a step for input of that shape, batch included, and what it takes beside arrays."""
    name, given, axes, where = step.op, step.options, len(shape) - 2, "x has shape"
    if name == "global_avg_pool":
        return global_plan(name, shape, where)
    if name == "adaptive_avg_pool":
        return adaptive_plan(name, shape, axes, where, given["output_size"])
    keys = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    options = window_options(name, axes, *(given.get(key, 1) for key in keys))
    if name == "max_pool":
        return max_plan(name, shape, axes, *options)
    return average_plan(name, shape, axes, where, given["count_include_pad"], *options)


def _kernel(site: Site) -> Call:
    found = plan(site.step, (site.batch, *site.step.inputs_as[0]))
    arrays = [site.x(), site.y(found.y), *([None] if site.step.op == "max_pool" else [])]
    return getattr(implementation("pooling"), found.kernel), [*arrays, *found.arguments]


def _fractional(step: Step, c: Constants) -> Function:
    return lambda x, out=None, indices=None: functions.fractional_max_pool2d(
        x, **step.options, return_indices=True, indices=indices, out=out
    )[0]


def _positions(step: Step, wide: np.dtype[Any]) -> list[Room]:
    return [(step.shape, np.dtype(np.int64))]


KINDS = {
    **dict.fromkeys(("max_pool", "avg_pool", "adaptive_avg_pool", "global_avg_pool"), Kind(_function, _kernel)),
    "fractional_max_pool2d": Kind(_fractional, scratch=_positions),
}
