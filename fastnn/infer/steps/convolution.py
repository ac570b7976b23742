"""Convolutions along one or two axes."""

from __future__ import annotations

from typing import Any

from fastnn.dispatch import implementation
from fastnn.functions.convolution import geometry
from fastnn.fusion import fused
from fastnn.infer.graph import Step
from fastnn.infer.steps.kind import Call, Constants, Function, Kind, Site, functions


def _function(step: Step, c: Constants) -> Function:
    call = functions.conv1d if c["weight"].ndim == 3 else functions.conv2d
    return lambda x, out=None: call(x, c["weight"], c.get("bias"), *sliding(step), activation=step.activation, out=out)


def sliding(step: Step) -> tuple[Any, Any, Any, Any]:
    """stride, padding, dilation, groups"""
    given = step.options
    return given["stride"], given["padding"], given["dilation"], given["groups"]


def _kernel(site: Site) -> Call:
    step, c = site.step, site.constants
    weight, axes = c["weight"], c["weight"].ndim - 2
    title, shape = f"conv{axes}d", (site.batch, *step.inputs_as[0])
    x_shape, w_shape, y_shape, options = geometry(title, shape, weight.shape, *sliding(step), axes)
    then = fused("conv", step.activation, site.dtype) or (None, ())
    arrays = [site.x(0, x_shape), weight.reshape(w_shape), c.get("bias"), site.y(y_shape)]
    return implementation("convolution").forward, [*arrays, *options, *then, None]


KINDS = {"conv": Kind(_function, _kernel, fuses=True)}
