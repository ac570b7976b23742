"""The public functions of the family `optimizers`."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from sys import modules
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.arguments import bare, check_updated, flag, overlap, parameter_dtype, plain, real_array, real_number
from fastnn.arrays import namespace, on_device, together
from fastnn.dispatch import implementation
from fastnn.function import public
from fastnn.kernels.cpu.optimizers import _plain
from fastnn.table import FUNCTIONS

__all__ = ["adam_step", "adamw_step", "clip_grad_norm", "rmsprop_step", "sgd_step"]

Array = npt.NDArray[Any]
State = Array | None
_EPS = 1e-6  # PyTorch's, in the denominator of the factor that clips


@public(FUNCTIONS["sgd_step"])
def sgd_step(
    param: Array,
    grad: Array,
    velocity: State,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    *,
    first: bool = False,
    maximize: bool = False,
) -> tuple[Array, State]:
    title = "sgd_step"
    lr = real_number(title, "lr", lr, low=0.0)
    momentum = real_number(title, "momentum", momentum, low=0.0)
    dampening = real_number(title, "dampening", dampening)
    weight_decay = real_number(title, "weight_decay", weight_decay, low=0.0)
    nesterov, first = flag(title, "nesterov", nesterov), flag(title, "first", first)
    if nesterov and (momentum == 0 or dampening != 0):
        raise ValueError(
            f"{title}: nesterov needs momentum and no dampening; got momentum={momentum:g} and dampening={dampening:g}"
        )
    if momentum != 0 and velocity is None:
        raise TypeError(f"{title}: velocity is None and momentum is {momentum:g}; expected an array of param's shape")
    settings = (lr, momentum, dampening, weight_decay, nesterov, first, flag(title, "maximize", maximize))
    _update(title, "sgd", param, grad, {"velocity": velocity}, settings)
    return param, velocity


@public(FUNCTIONS["rmsprop_step"])
def rmsprop_step(
    param: Array,
    grad: Array,
    square_avg: Array,
    lr: float = 0.01,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    *,
    grad_avg: State = None,
    velocity: State = None,
    maximize: bool = False,
) -> tuple[Array, Array, State, State]:
    title = "rmsprop_step"
    lr = real_number(title, "lr", lr, low=0.0)
    alpha = real_number(title, "alpha", alpha, low=0.0, below=1.0)
    eps = real_number(title, "eps", eps, low=0.0)
    weight_decay = real_number(title, "weight_decay", weight_decay, low=0.0)
    momentum = real_number(title, "momentum", momentum, low=0.0)
    if momentum != 0 and velocity is None:
        raise TypeError(f"{title}: velocity is None and momentum is {momentum:g}; expected an array of param's shape")
    states = {"square_avg": _required(title, "square_avg", square_avg), "grad_avg": grad_avg, "velocity": velocity}
    settings = (lr, alpha, eps, weight_decay, momentum, flag(title, "maximize", maximize))
    _update(title, "rmsprop", param, grad, states, settings)
    return param, square_avg, grad_avg, velocity


@public(FUNCTIONS["adam_step"])
def adam_step(
    param: Array,
    grad: Array,
    exp_avg: Array,
    exp_avg_sq: Array,
    step: int,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    *,
    max_exp_avg_sq: State = None,
    maximize: bool = False,
) -> tuple[Array, Array, Array, State]:
    settings = _adam_settings("adam_step", step, lr, betas, eps, weight_decay, False, maximize)
    return _adam("adam_step", param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq, settings)


@public(FUNCTIONS["adamw_step"])
def adamw_step(
    param: Array,
    grad: Array,
    exp_avg: Array,
    exp_avg_sq: Array,
    step: int,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    *,
    max_exp_avg_sq: State = None,
    maximize: bool = False,
) -> tuple[Array, Array, Array, State]:
    settings = _adam_settings("adamw_step", step, lr, betas, eps, weight_decay, True, maximize)
    return _adam("adamw_step", param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq, settings)


@public(FUNCTIONS["clip_grad_norm"])
def clip_grad_norm(
    grads: Sequence[Array], max_norm: float, norm_type: float = 2.0, *, error_if_nonfinite: bool = False
) -> Any:
    title = "clip_grad_norm"
    if isinstance(grads, np.ndarray) or not isinstance(grads, Sequence):
        raise TypeError(f"{title}: grads is of type {type(grads).__name__}; expected a list or tuple of arrays")
    max_norm = real_number(title, "max_norm", max_norm, low=0.0, infinite=True)
    norm_type = real_number(title, "norm_type", norm_type, above=0.0, infinite=True)
    error_if_nonfinite = flag(title, "error_if_nonfinite", error_if_nonfinite)
    written = {f"grads[{k}]": grad for k, grad in enumerate(grads)}
    if "cupy" in modules:
        together(title, **written)
    for name, grad in written.items():
        check_updated(title, name, grad)
    if len({id(grad) for grad in grads}) < len(grads):
        raise ValueError(f"{title}: grads holds the same array more than once; it would be scaled more than once")
    arrays = [plain(grad) for grad in grads]
    kernels = implementation("optimizers", arrays[0] if arrays else None)
    sums = [kernels.power_sum(array, norm_type) for array in arrays]
    if arrays and on_device(arrays[0]):
        return _clip_on_device(title, grads, arrays, sums, max_norm, norm_type, error_if_nonfinite)
    with np.errstate(all="ignore"):
        norm = float(np.max(sums, initial=0.0)) if math.isinf(norm_type) else float(np.sum(sums)) ** (1 / norm_type)
        total = np.result_type(np.float32, *(parameter_dtype(grad.dtype) for grad in arrays)).type(norm)
    if error_if_nonfinite and not math.isfinite(norm):
        raise ValueError(f"{title}: the norm of order {norm_type:g} of grads is {norm}; expected it to be finite")
    factor = max_norm / (norm + _EPS) if math.isfinite(max_norm) or not math.isfinite(norm) else 1.0
    if not factor >= 1.0:
        for grad, contiguous in zip(grads, arrays, strict=True):
            kernels.scale(contiguous, factor)
            if contiguous is not grad:
                bare(grad)[...] = contiguous
    return total


def _clip_on_device(
    title: str,
    grads: Sequence[Array],
    arrays: list[Array],
    sums: list[Any],
    max_norm: float,
    norm_type: float,
    error_if_nonfinite: bool,
) -> Any:
    """The same without waiting for the norm, unless an error may depend on it: the factor stays there, 1 included."""
    cupy = namespace(arrays[0])
    powers = cupy.stack(sums)
    norm = powers.max() if math.isinf(norm_type) else powers.sum() ** (1 / norm_type)
    if error_if_nonfinite and not math.isfinite(float(norm)):
        raise ValueError(
            f"{title}: the norm of order {norm_type:g} of grads is {float(norm)}; expected it to be finite"
        )
    factor = cupy.minimum(max_norm / (norm + _EPS), 1.0)
    for grad, contiguous in zip(grads, arrays, strict=True):
        implementation("optimizers", contiguous).scale(contiguous, factor)
        if contiguous is not grad:
            grad[...] = contiguous
    return norm.astype(np.result_type(np.float32, *(parameter_dtype(grad.dtype) for grad in arrays)))


def _adam_settings(
    title: str, step: Any, lr: Any, betas: Any, eps: Any, weight_decay: Any, decoupled: bool, maximize: Any
) -> tuple[Any, ...]:
    """The numbers that the kernels want."""
    try:
        number = operator.index(step)
    except TypeError:
        raise TypeError(f"{title}: step is {step!r}; expected an integer, 1 for the first step") from None
    if isinstance(step, (bool, np.bool_)) or number < 1:
        raise ValueError(f"{title}: step is {step!r}; expected an integer, 1 for the first step")
    if not isinstance(betas, (tuple, list)) or len(betas) != 2:
        raise TypeError(f"{title}: betas is {betas!r}; expected two numbers")
    beta1, beta2 = (real_number(title, f"betas[{k}]", beta, low=0.0, below=1.0) for k, beta in enumerate(betas))
    lr = real_number(title, "lr", lr, low=0.0)
    eps = real_number(title, "eps", eps, low=0.0)
    weight_decay = real_number(title, "weight_decay", weight_decay, low=0.0)
    return min(number, 2**53), lr, beta1, beta2, eps, weight_decay, decoupled, flag(title, "maximize", maximize)


def _adam(
    title: str, param: Array, grad: Array, first: Array, second: Array, largest: State, settings: tuple[Any, ...]
) -> tuple[Array, Array, Array, State]:
    states = {
        "exp_avg": _required(title, "exp_avg", first),
        "exp_avg_sq": _required(title, "exp_avg_sq", second),
        "max_exp_avg_sq": largest,
    }
    _update(title, "adam", param, grad, states, settings)
    return param, first, second, largest


def _required(title: str, name: str, value: State) -> Array:
    if value is None:
        raise TypeError(f"{title}: {name} is None; expected a numpy.ndarray of param's shape")
    return value


def _update(
    title: str,
    name: str,
    param: Any,
    grad: Any,
    states: dict[str, Any],
    settings: tuple[Any, ...],
) -> None:
    """Run a step: at once on arrays that are as kernels want them, by way of copies on others, after all checks."""
    kernel = getattr(implementation("optimizers", param), name)
    if _plain(param, grad, tuple(states.values())):
        kernel(param, grad, *states.values(), *settings)
        return
    if "cupy" in modules:
        together(title, param=param, grad=grad, **states)
    check_updated(title, "param", param)
    grad = bare(real_array(title, "grad", grad))
    if grad.dtype != param.dtype:
        raise TypeError(f"{title}: grad has dtype {grad.dtype}; expected param's, {param.dtype}")
    if grad.shape != param.shape:
        raise ValueError(f"{title}: grad has shape {grad.shape}; expected param's, {param.shape}")
    updated = {"param": param, **{name: state for name, state in states.items() if state is not None}}
    for name, state in updated.items():
        check_updated(title, name, state, param.shape, param.dtype if name == "param" else parameter_dtype(param.dtype))
    names = list(updated)
    for k, name in enumerate(names):
        for other in ("grad", *names[:k]):
            if overlap(updated[name], grad if other == "grad" else updated[other]):
                raise ValueError(f"{title}: {name} overlaps {other} in memory; expected memory of its own")
    copies = {name: plain(array) for name, array in updated.items()}
    given = [copies.get(name) for name in states]
    kernel(copies["param"], plain(grad), *given, *settings)
    for name, array in updated.items():
        if copies[name] is not array:
            bare(array)[...] = copies[name]
