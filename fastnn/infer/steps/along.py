"""Along an axis: softmax, gates, maxout."""

from __future__ import annotations

from typing import Any

from fastnn.infer.graph import Step
from fastnn.infer.steps.kind import Constants, Function, Kind, functions


def _function(step: Step, c: Constants) -> Function:
    axis = step.options["axis"]
    given = (step.options["pieces"], axis) if step.op == "maxout" else (axis,)
    if axis % (len(step.inputs_as[0]) + 1) == 0:
        raise ValueError(f"{step.op} along axis {axis} of x of shape {('N', *step.inputs_as[0])} mixes samples")
    call: Any = getattr(functions, step.op)
    return lambda x, out=None: call(x, *given, out=out)


KINDS = dict.fromkeys(("softmax", "log_softmax", "glu", "swiglu", "maxout"), Kind(_function))
