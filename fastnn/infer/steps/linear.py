"""Linear layers."""

from __future__ import annotations

import math

import numpy as np

from fastnn.dispatch import implementation
from fastnn.fusion import fused
from fastnn.infer.graph import Step
from fastnn.infer.steps.kind import Call, Constants, Function, Kind, Site, functions
from fastnn.kernels import gemm
from fastnn.kernels.cpu import linear as native

_BLAS_ABOVE, _BLAS_ABOVE_OUTPUTS = 64, 16  # rows and outputs of products for which the BLAS was measured to be faster


def _function(step: Step, c: Constants) -> Function:
    return lambda x, out=None: functions.linear(x, c["weight"], c.get("bias"), step.activation, out=out)


def _kernel(site: Site) -> Call:
    step, c, dtype, packed = site.step, site.constants, site.dtype, site.packed
    rows, weight, kernels = site.batch * math.prod(step.shape[:-1]), c["weight"], implementation("linear")
    x, y = site.x(0, (rows, weight.shape[1])), site.y((rows, weight.shape[0]))
    then = fused("linear", step.activation, dtype)
    if kernels is not native or rows <= _BLAS_ABOVE or len(weight) <= _BLAS_ABOVE_OUTPUTS or dtype.itemsize == 2:
        return kernels.forward, [x, weight, c.get("bias"), then, y, None]
    name = step.constants["weight"]
    if name not in packed:
        packed[name] = np.asfortranarray(weight)  # the BLAS packs it 5 to 20 % sooner from there
    return gemm.forward, [native._finish, x, packed[name], c.get("bias"), then, y, None]


KINDS = {"linear": Kind(_function, _kernel, fuses=True)}
