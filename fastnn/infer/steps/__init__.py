"""The kinds of steps, one module for those that are alike. `KINDS` lists them by name.

A step is done in two ways. `function` does it through the public function, which checks everything: so are models and
files checked, on one sample of zeros. `bound` does it as a session does, by the kernels themselves, on arrays of its
own of which all is known: nothing else in `fastnn.infer` calls a kernel.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.arguments import parameter_dtype
from fastnn.infer.graph import Step
from fastnn.infer.steps import (
    along,
    arrays,
    blocked,
    convolution,
    elementwise,
    linear,
    normalization,
    pooling,
    quantized,
)
from fastnn.infer.steps.kind import Call, Constants, Function, Kind, Room, Site

KINDS: dict[str, Kind] = {
    **linear.KINDS,
    **convolution.KINDS,
    **pooling.KINDS,
    **normalization.KINDS,
    **elementwise.KINDS,
    **along.KINDS,
    **arrays.KINDS,
    **quantized.KINDS,
}
"""Those of graphs and files."""
PLANNED: dict[str, Kind] = {**KINDS, **blocked.KINDS}
"""Those of plans too."""


def function(step: Step, c: Constants) -> Function:
    """`f(*inputs, out, *scratch)` by public functions; out and scratch may be None or left away."""
    kind = KINDS.get(step.op)
    if kind is None:
        raise ValueError(f"there is no step {step.op!r}; expected one of {', '.join(sorted(KINDS))}")
    if step.activation is not None and not kind.fuses and step.op != "activation":
        raise ValueError(f"a step {step.op!r} applies no activation; got {step.activation}")
    return kind.function(step, c)


def scratch(step: Step, dtype: np.dtype[Any]) -> list[Room]:
    """The arrays that a step needs beside input and result, by shape of one sample and dtype."""
    return PLANNED[step.op].scratch(step, parameter_dtype(dtype))


def overwrites(step: Step) -> tuple[int, ...]:
    """The inputs over which the step may write its result, whose size is theirs."""
    if step.op == "blocked_conv":
        return blocked.overwrites(step)
    return step.inputs if PLANNED[step.op].in_place else ()


def bound(site: Site) -> list[Call]:
    """Kernels and their arguments."""
    kind = PLANNED[site.step.op]
    if kind.kernel is not None:
        calls = kind.kernel(site)
        return calls if isinstance(calls, list) else [calls]
    xs = [site.x(number) for number in range(len(site.step.inputs))]
    return [(kind.function(site.step, site.constants), [*xs, site.y(), *site.rooms])]
