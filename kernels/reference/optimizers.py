"""Steps of the optimisers and the norm of gradients: the oracles of the table, evaluated in float64, rounded once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.kernels.reference.rounding import store, widen
from fastnn.table import FUNCTIONS

Array = npt.NDArray[Any]


def sgd(
    param: Array,
    grad: Array,
    velocity: Array | None,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    first: bool,
    maximize: bool,
) -> None:
    """One step; velocity is None where momentum is 0."""
    options = {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay}
    states = {"velocity": velocity}
    _step("sgd_step", param, grad, states, {**options, "nesterov": nesterov, "first": first, "maximize": maximize})


def rmsprop(
    param: Array,
    grad: Array,
    square_avg: Array,
    grad_avg: Array | None,
    velocity: Array | None,
    lr: float,
    alpha: float,
    eps: float,
    weight_decay: float,
    momentum: float,
    maximize: bool,
) -> None:
    """One step; grad_avg is None unless it is to be centred, velocity where momentum is 0."""
    options = {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay, "momentum": momentum}
    states = {"square_avg": square_avg, "grad_avg": grad_avg, "velocity": velocity}
    _step("rmsprop_step", param, grad, states, {**options, "maximize": maximize})


def adam(
    param: Array,
    grad: Array,
    exp_avg: Array,
    exp_avg_sq: Array,
    max_exp_avg_sq: Array | None,
    step: float,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
    maximize: bool,
) -> None:
    """One step of Adam, of AdamW where decoupled, with amsgrad unless max_exp_avg_sq is None."""
    options = {"step": step, "lr": lr, "betas": (beta1, beta2), "eps": eps, "weight_decay": weight_decay}
    states = {"exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq, "max_exp_avg_sq": max_exp_avg_sq}
    _step("adamw_step" if decoupled else "adam_step", param, grad, states, {**options, "maximize": maximize})


def _step(name: str, param: Array, grad: Array, states: dict[str, Array | None], options: dict[str, Any]) -> None:
    given = {key: None if state is None else widen(state) for key, state in states.items()}
    with np.errstate(all="ignore"):
        results = FUNCTIONS[name].oracle(param=widen(param), grad=widen(grad), **given, **options)
    for array, result in zip((param, *states.values()), results, strict=True):
        if array is not None and result is not None:
            store(result, array)


def power_sum(x: Array, p: float) -> float:
    """The sum of |x|^p over all elements, in double; for p = infinity the largest |x|."""
    with np.errstate(all="ignore"):
        magnitudes = np.abs(widen(x))
        return float(np.max(magnitudes, initial=0.0) if math.isinf(p) else np.sum(magnitudes**p))


def scale(x: Array, factor: float) -> None:
    """Multiply x by a factor, in place."""
    with np.errstate(all="ignore"):
        store(widen(x) * factor, x)
