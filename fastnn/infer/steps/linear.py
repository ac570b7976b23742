"""Linear layers."""

from __future__ import annotations

import math

from fastnn.dispatch import implementation
from fastnn.fusion import fused
from fastnn.infer.graph import Step
from fastnn.infer.steps.kind import Call, Constants, Function, Kind, Site, functions
from fastnn.kernels import panels
from fastnn.kernels.cpu import linear as native


def _function(step: Step, c: Constants) -> Function:
    return lambda x, out=None: functions.linear(x, c["weight"], c.get("bias"), step.activation, out=out)


def _kernel(site: Site) -> Call:
    """Products with weights packed once: the BLAS was measured to be faster for no number of rows."""
    step, c, packed = site.step, site.constants, site.packed
    weight, kernels = c["weight"], implementation("linear")
    outputs, inputs = weight.shape
    rows = site.batch * math.prod(step.shape[:-1])
    x, y = site.x(0, (rows, inputs)), site.y((rows, outputs))
    then = fused("linear", step.activation, site.dtype)
    if kernels is not native or site.dtype.itemsize == 2:
        return kernels.forward, [x, weight, c.get("bias"), then, y, None]
    name = step.constants["weight"]
    if name not in packed:
        packed[name] = panels.pack(weight, c.get("bias"))
    return native.Packed(packed[name], rows, inputs, outputs, then), [x, y]


KINDS = {"linear": Kind(_function, _kernel, fuses=True)}
