"""Steps of the optimisers and the norm of gradients: include/optimizers.hpp again, for Numba."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from numba.extending import intrinsic

from fastnn.kernels.jit.elements import cached, memory, number_of, read, sweep
from fastnn.kernels.jit.intrinsics import Value, constant, fmadd, fnmadd, formula, select, vmax, vmin
from fastnn.kernels.jit.parallel import run

Array = npt.NDArray[Any]


@intrinsic
def _sqrt(typingctx: Any, x: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.call(builder.module.declare_intrinsic("llvm.sqrt", [arguments[0].type]), arguments)

    return x(x), generate


@formula
def _direction(p: Value, g: Value, sign: Value, weight_decay: Value) -> Value:
    g = sign * g
    return fmadd(weight_decay, p, g) if weight_decay != 0 else g


@formula
def _descend(p: Value, g: Value, sign: Value, weight_decay: Value, lr: Value) -> Any:
    return (fnmadd(lr, _direction(p, g, sign, weight_decay), p),)


@formula
def _sgd(
    p: Value,
    g: Value,
    v: Value,
    sign: Value,
    weight_decay: Value,
    lr: Value,
    momentum: Value,
    fresh: Value,
    nesterov: bool,
    first: bool,
) -> Any:
    g = _direction(p, g, sign, weight_decay)
    v = g if first else fmadd(momentum, v, fresh * g)
    return fnmadd(lr, fmadd(momentum, v, g) if nesterov else v, p), v


@formula
def _rmsprop(
    p: Value,
    g: Value,
    s: Value,
    a: Value,
    v: Value,
    sign: Value,
    weight_decay: Value,
    lr: Value,
    alpha: Value,
    fresh: Value,
    eps: Value,
    momentum: Value,
    centered: bool,
) -> Any:
    V = type(p)
    g = _direction(p, g, sign, weight_decay)
    s = fmadd(alpha, s, fresh * g * g)
    variance = s
    if centered:
        a = fmadd(alpha, a, fresh * g)
        variance = vmax(V(0.0), fnmadd(a, a, s))
    d = g / (_sqrt(variance) + eps)
    if momentum != 0:
        v = d = fmadd(momentum, v, d)
    return fnmadd(lr, d, p), s, a, v


@formula
def _adam(
    p: Value,
    g: Value,
    m: Value,
    v: Value,
    x: Value,
    sign: Value,
    weight_decay: Value,
    step_size: Value,
    to_root: Value,
    beta1: Value,
    fresh1: Value,
    beta2: Value,
    fresh2: Value,
    eps: Value,
    decoupled: bool,
    amsgrad: bool,
) -> Any:
    V = type(p)
    g = _direction(p, g, sign, V(0.0) if decoupled else weight_decay)
    m = fmadd(beta1, m, fresh1 * g)
    v = fmadd(beta2, v, fresh2 * g * g)
    second = v
    if amsgrad:
        second = x = select(x == x, vmax(x, v), x)
    update = step_size * (m / fmadd(_sqrt(second), to_root, eps))
    if decoupled and weight_decay != 0:
        largest = constant(p, "largest")
        update = fmadd(weight_decay, vmin(largest, vmax(-largest, p)), update)
    return p - update, m, v, x


@cached
def _descend_loop(_: Any, param: Any, operands: Any) -> None:
    sweep(_descend, (param,), (param, operands[0]), operands[1:])


@cached
def _sgd_loop(_: Any, param: Any, operands: Any) -> None:
    sweep(_sgd, (param, operands[1]), (param, operands[0], operands[1]), operands[2:])


@cached
def _rmsprop_loop(_: Any, param: Any, operands: Any) -> None:
    outputs = (param, operands[1], operands[2], operands[3])
    sweep(_rmsprop, outputs, (param, *operands[:4]), operands[4:])


@cached
def _adam_loop(_: Any, param: Any, operands: Any) -> None:
    sweep(_adam, (param, operands[1], operands[2], operands[3]), (param, *operands[:4]), operands[4:])


def _run(loop: Any, param: Array, arrays: list[Array], numbers: list[float], flags: list[bool]) -> None:
    V = number_of(param.dtype)
    with np.errstate(all="ignore"):
        run(loop, memory(param), (*map(memory, arrays), *map(V, numbers), *flags))


def _spare(state: Array | None, like: Array) -> Array:
    """A state, or memory that the loop may use in the place of one that the settings leave out."""
    return np.zeros(like.shape, number_of(like.dtype)) if state is None else state


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
    numbers = [-1.0 if maximize else 1.0, weight_decay, lr]
    if velocity is None or momentum == 0:
        _run(_descend_loop, param, [grad], numbers, [])
    else:
        _run(_sgd_loop, param, [grad, velocity], [*numbers, momentum, 1 - dampening], [nesterov, first])


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
    numbers = [-1.0 if maximize else 1.0, weight_decay, lr, alpha, 1 - alpha, eps, momentum]
    states = [square_avg, _spare(grad_avg, param), _spare(velocity, param)]
    _run(_rmsprop_loop, param, [grad, *states], numbers, [grad_avg is not None])


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
    corrected = [lr / (1 - beta1**step), 1 / math.sqrt(1 - beta2**step)]
    decay = lr * weight_decay if decoupled else weight_decay
    numbers = [-1.0 if maximize else 1.0, decay, *corrected, beta1, 1 - beta1, beta2, 1 - beta2, eps]
    states = [exp_avg, exp_avg_sq, _spare(max_exp_avg_sq, param)]
    _run(_adam_loop, param, [grad, *states], numbers, [decoupled, max_exp_avg_sq is not None])


@cached
def _power_sum(x: Any, p: float) -> Any:
    lane = np.zeros(16)
    for i in range(x.size):
        value = abs(np.float64(read(x, i)))
        k = i % 16
        if p == 2.0:
            lane[k] += value * value
        elif p == 1.0:
            lane[k] += value
        elif p == np.inf:
            lane[k] = value if lane[k] == lane[k] and not value <= lane[k] else lane[k]
        else:
            lane[k] += value**p
    return lane


def power_sum(x: Array, p: float) -> float:
    """The sum of |x|^p over all elements, in double; for p = infinity the largest |x|."""
    lanes = _power_sum(memory(x), float(p))
    return float(np.max(lanes) if math.isinf(p) else np.sum(lanes))


@formula
def _product(x: Value, factor: Value) -> Any:
    return (x * factor,)


@cached
def _scale_loop(_: Any, x: Any, operands: Any) -> None:
    sweep(_product, (x,), (x,), operands)


def scale(x: Array, factor: float) -> None:
    """Multiply x by a factor, in place."""
    _run(_scale_loop, x, [], [factor], [])
