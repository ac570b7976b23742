"""Element by element: activations, sums, factors; copies, and channels of zeros."""

from __future__ import annotations

import numpy as np

from fastnn import functional
from fastnn.infer.graph import Array, Step
from fastnn.infer.steps.kind import Constants, Function, Kind
from fastnn.table import OPS


def _activation(step: Step, c: Constants) -> Function:
    name, *given = step.activation or ("",)
    if name not in OPS:
        raise ValueError(f"there is no activation {name!r}")
    call, values = getattr(functional, name), [*given, *c.values()]
    return lambda x, out=None: call(x, *values, out=out)


def _by(step: Step, c: Constants) -> Function:
    call, by = getattr(np, step.op), float(step.options["by"])
    return lambda x, out=None: call(x, x.dtype.type(by), out=out)


def _add(step: Step, c: Constants) -> Function:
    if step.inputs_as[0] != step.inputs_as[-1] or len(step.inputs) != 2:
        raise ValueError(f"body and shortcut make {step.inputs_as[0]} and {step.inputs_as[-1]}; expected the same")
    return lambda a, b, out=None: np.add(a, b, out=out)


def _copy(step: Step, c: Constants) -> Function:
    return lambda x, out=None: np.positive(x, out=out)


def _pad(step: Step, c: Constants) -> Function:
    channels, stride = step.options["channels"], step.options["stride"]
    (own, *_) = step.inputs_as[0]
    if len(step.inputs_as[0]) != 3 or own > channels or stride < 1:
        raise ValueError(f"x has shape {('N', *step.inputs_as[0])}; expected (N, C, H, W), C at most {channels}")

    def pad(x: Array, out: Array | None = None) -> Array:
        taken = x[:, :, ::stride, ::stride]
        y = np.empty((len(x), channels, *taken.shape[2:]), x.dtype) if out is None else out
        y[:, :own] = taken
        y[:, own:] = 0
        return y

    return pad


KINDS = {
    "activation": Kind(_activation, in_place=True),
    "add": Kind(_add, in_place=True),
    **dict.fromkeys(("multiply", "divide"), Kind(_by, in_place=True)),
    "copy": Kind(_copy),
    "pad": Kind(_pad),
}
