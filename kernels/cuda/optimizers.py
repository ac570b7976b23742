"""Steps of the optimisers and norms of gradients. Source: optimizers.cu.

A sum of powers stays on the device, an array of shape () and dtype float64 where the other backends return a float, and
`scale` takes such a factor: clipping gradients by their norm waits for nothing.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.kernels.cuda.compiler import Family, cupy, launch, launch_elements
from fastnn.kernels.cuda.sums import ADD_UP, added_up, blocks, partial_sums, threads

Array = Any

FAMILY = Family(
    "optimizers",
    "sgd_step<{T}>",
    "rmsprop_step<{T}>",
    "adam_step<{T}>",
    "scale_all<{T}>",
    "power_sums<{T}>",
    "largest",
    ADD_UP,
)


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
    numbers, flags = (lr, momentum, dampening, weight_decay), (nesterov, first, maximize)
    _step("sgd_step<{T}>", param, grad, (velocity,), numbers, flags)


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
    numbers, flags = (lr, alpha, eps, weight_decay, momentum), (grad_avg is not None, maximize)
    _step("rmsprop_step<{T}>", param, grad, (square_avg, grad_avg, velocity), numbers, flags)


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
    corrections = (1 - math.pow(beta1, step), math.sqrt(1 - math.pow(beta2, step)))
    numbers, flags = (
        (lr, beta1, beta2, eps, weight_decay, *corrections),
        (decoupled, max_exp_avg_sq is not None, maximize),
    )
    _step("adam_step<{T}>", param, grad, (exp_avg, exp_avg_sq, max_exp_avg_sq), numbers, flags)


def _step(
    kernel: str,
    param: Array,
    grad: Array,
    states: tuple[Array | None, ...],
    numbers: tuple[float, ...],
    flags: tuple[bool, ...],
) -> None:
    arrays = (param, grad, *states)
    found = FAMILY.kernel(kernel, param.dtype)
    launch_elements(found, param.size, param.itemsize, *arrays, param.size, *map(np.float64, numbers), *map(int, flags))


def power_sum(x: Array, p: float) -> Array:
    """The sum of |x|^p over all elements, in double; for p = infinity the largest |x|."""
    partial = partial_sums(x.size)
    kernel = FAMILY.kernel("power_sums<{T}>", x.dtype)
    launch(kernel, blocks(x.size), x, partial, x.size, np.float64(p), threads=threads(x.size))
    if not math.isinf(p):
        return added_up(FAMILY, x.dtype, partial).reshape(())
    most = cupy().empty((), np.float64)
    launch(FAMILY.kernel("largest", x.dtype), 1, partial, most, partial.size, threads=threads(partial.size))
    return most


def scale(x: Array, factor: float | Array) -> None:
    """Multiply x by a factor, in place."""
    known = isinstance(factor, (int, float))
    numbers = (np.float64(factor), None) if known else (np.float64(1), factor)
    launch_elements(FAMILY.kernel("scale_all<{T}>", x.dtype), x.size, x.itemsize, x, x.size, *numbers)
