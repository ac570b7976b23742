"""Batch norm with its running statistics, where it could not be folded; norms of each sample by itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.infer.graph import Step
from fastnn.infer.steps.kind import Constants, Function, Kind, Room, functions


def _batch_norm(step: Step, c: Constants) -> Function:
    known = c.get("weight"), c.get("bias"), c["running_mean"], c["running_var"], step.options["eps"]
    return lambda x, out=None: functions.batch_norm_infer(x, *known, step.activation, out=out)


def _groups(step: Step, c: Constants) -> Function:
    groups = step.options.get("groups")
    call: Any = functions.instance_norm if groups is None else functions.group_norm
    known = *([] if groups is None else [groups]), c.get("weight"), c.get("bias"), step.options["eps"]
    return lambda x, out=None, mean=None, inv_std=None: call(x, *known, out=out, mean=mean, inv_std=inv_std)[0]


def _groups_room(step: Step, wide: np.dtype[Any]) -> list[Room]:
    return [((step.options.get("groups", step.shape[0]),), wide)] * 2


def _rows(step: Step, c: Constants) -> Function:
    options: dict[str, Any] = {"axis": step.options["axis"], "eps": step.options["eps"]}
    if not -len(step.inputs_as[0]) <= options["axis"] < 0:
        raise ValueError(f"axis is {options['axis']}; expected a negative number, of axes after the first")
    gamma, beta = c.get("weight"), c.get("bias")
    if step.op == "rms_norm":
        return lambda x, out=None, inv_rms=None: functions.rms_norm(x, gamma, **options, out=out, inv_rms=inv_rms)[0]
    return lambda x, out=None, mean=None, inv_std=None: functions.layer_norm(
        x, gamma, beta, **options, out=out, mean=mean, inv_std=inv_std
    )[0]


def _rows_room(step: Step, wide: np.dtype[Any]) -> list[Room]:
    return [(step.shape[: step.options["axis"]], wide)] * (2 if step.op == "layer_norm" else 1)


KINDS = {
    "batch_norm": Kind(_batch_norm, fuses=True),
    **dict.fromkeys(("instance_norm", "group_norm"), Kind(_groups, scratch=_groups_room)),
    **dict.fromkeys(("layer_norm", "rms_norm"), Kind(_rows, scratch=_rows_room)),
}
