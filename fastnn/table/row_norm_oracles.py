"""Layer, group, instance and RMS norm in float64: oracles, magnitudes, gradients, and examples worth testing."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastnn.table.normalization_oracles import (
    Example,
    Tuple,
    gradient,
    magnitudes,
    moments,
    named,
    or_else,
    parameter_gradients,
    random_parameters,
    with_gradient,
    with_memory,
)


def _row_axes(x: Any, axis: int) -> tuple[int, ...]:
    return tuple(range(axis % x.ndim, x.ndim))


def layer(x: Any, gamma: Any = None, beta: Any = None, *, axis: int = -1, eps: float = 1e-5, **_memory: Any) -> Tuple:
    axes = _row_axes(x, axis)
    mean, d, variance = moments(x, axes)
    inv_std = 1 / np.sqrt(variance + eps)
    y = d * inv_std * (1 if gamma is None else gamma) + (0 if beta is None else beta)
    shape = x.shape[: axes[0]]
    return y, mean.reshape(shape), inv_std.reshape(shape)


def layer_scale(results: Tuple, **arguments: Any) -> Tuple:
    x, gamma, beta = arguments["x"], arguments.get("gamma"), arguments.get("beta")
    _, d, _ = moments(x, _row_axes(x, arguments.get("axis", -1)))
    inv_std = _like_row(results[2], x)
    size = (abs(d * inv_std) + 1) * (1 if gamma is None else abs(gamma)) + (0 if beta is None else abs(beta))
    return size, abs(results[1]) + 1 / results[2], results[2]


def _like_row(statistic: Any, x: Any) -> Any:
    return statistic.reshape(*statistic.shape, *[1] * (x.ndim - statistic.ndim))


def _layer_backward_parts(dy: Any, x: Any, gamma: Any, mean: Any, inv_std: Any, *, axis: int = -1) -> Tuple:
    axes = _row_axes(x, axis)
    _, d, _ = moments(x, axes)
    inv = _like_row(inv_std, x)
    weight = np.ones_like(x[(0,) * axes[0]]) if gamma is None else gamma
    dx, size = gradient(dy, d, inv, weight, axes)
    outer = tuple(range(axes[0]))
    results = dx, (dy * d * inv).sum(axis=outer), dy.sum(axis=outer)
    return results, (size, (abs(dy) * (abs(d * inv) + 1)).sum(axis=outer), abs(dy).sum(axis=outer))


def layer_backward(dgamma: Any = None, dbeta: Any = None, accumulate: bool = False, **arguments: Any) -> Tuple:
    results, _ = _layer_backward_parts(**arguments)
    return parameter_gradients(arguments["gamma"], results, (dgamma, dbeta), accumulate)


def layer_backward_scale(
    results: Tuple, dgamma: Any = None, dbeta: Any = None, accumulate: bool = False, **arguments: Any
) -> Tuple:
    _, scales = _layer_backward_parts(**arguments)
    return parameter_gradients(arguments["gamma"], scales, magnitudes((dgamma, dbeta)), accumulate)


def layer_gradients(dys: Tuple, **arguments: Any) -> dict[str, Any]:
    fastnn = importlib.import_module("fastnn")

    _, mean, inv_std = fastnn.layer_norm(**arguments)
    gamma, axis = arguments.get("gamma"), arguments.get("axis", -1)
    results = fastnn.layer_norm_backward(dys[0], arguments["x"], gamma, mean, inv_std, axis=axis)
    return named(arguments, results)


def _grouped(x: Any, groups: int) -> Any:
    return x.reshape(x.shape[0], groups, x.shape[1] // groups, -1)


def _of_group(p: Any, groups: int) -> Any:
    return p.reshape(1, groups, -1, 1)


def _group_parts(x: Any, groups: int, gamma: Any, beta: Any, eps: float) -> Tuple:
    wide = _grouped(x, groups)
    mean, d, variance = moments(wide, (2, 3))
    inv_std = 1 / np.sqrt(variance + eps)
    channel = wide[0, :, :, 0].reshape(-1)
    gamma, beta = (_of_group(p, groups) for p in (or_else(gamma, 1, channel), or_else(beta, 0, channel)))
    y = (d * inv_std * gamma + beta).reshape(x.shape)
    size = ((abs(d * inv_std) + 1) * abs(gamma) + abs(beta)).reshape(x.shape)
    mean, inv_std = mean[:, :, 0, 0], inv_std[:, :, 0, 0]
    return (y, mean, inv_std), (size, abs(mean) + 1 / inv_std, inv_std)


def group(x: Any, groups: int, gamma: Any = None, beta: Any = None, eps: float = 1e-5, **_memory: Any) -> Tuple:
    return tuple(_group_parts(x, groups, gamma, beta, eps)[0])


def group_scale(results: Tuple, **arguments: Any) -> Tuple:
    known: Example = {"gamma": None, "beta": None, "eps": 1e-5} | arguments
    return tuple(_group_parts(**{name: known[name] for name in ("x", "groups", "gamma", "beta", "eps")})[1])


def _group_backward_parts(dy: Any, x: Any, groups: int, gamma: Any, mean: Any, inv_std: Any) -> Tuple:
    wide, wide_dy = _grouped(x, groups), _grouped(dy, groups)
    _, d, _ = moments(wide, (2, 3))
    inv = inv_std[:, :, None, None]
    weight = _of_group(or_else(gamma, 1, wide[0, :, :, 0].reshape(-1)), groups)
    dx, size = gradient(wide_dy, d, inv, weight, (2, 3))
    terms = wide_dy * d * inv
    results = dx.reshape(x.shape), terms.sum(axis=(0, 3)).reshape(-1), wide_dy.sum(axis=(0, 3)).reshape(-1)
    sizes = abs(wide_dy) * (abs(d * inv) + 1)
    scales = sizes.sum(axis=(0, 3)).reshape(-1), abs(wide_dy).sum(axis=(0, 3)).reshape(-1)
    return results, (size.reshape(x.shape), *scales)


def group_backward(dgamma: Any = None, dbeta: Any = None, accumulate: bool = False, **arguments: Any) -> Tuple:
    results, _ = _group_backward_parts(**arguments)
    return parameter_gradients(arguments["gamma"], results, (dgamma, dbeta), accumulate)


def group_backward_scale(
    results: Tuple, dgamma: Any = None, dbeta: Any = None, accumulate: bool = False, **arguments: Any
) -> Tuple:
    _, scales = _group_backward_parts(**arguments)
    return parameter_gradients(arguments["gamma"], scales, magnitudes((dgamma, dbeta)), accumulate)


def group_gradients(dys: Tuple, **arguments: Any) -> dict[str, Any]:
    fastnn = importlib.import_module("fastnn")

    _, mean, inv_std = fastnn.group_norm(**arguments)
    x, groups, gamma = arguments["x"], arguments["groups"], arguments.get("gamma")
    return named(arguments, fastnn.group_norm_backward(dys[0], x, groups, gamma, mean, inv_std))


def instance(x: Any, gamma: Any = None, beta: Any = None, eps: float = 1e-5, **_memory: Any) -> Tuple:
    return group(x, x.shape[1], gamma, beta, eps)


def instance_scale(results: Tuple, **arguments: Any) -> Tuple:
    return group_scale(results, groups=arguments["x"].shape[1], **arguments)


def instance_backward(**arguments: Any) -> Tuple:
    return group_backward(groups=arguments["x"].shape[1], **arguments)


def instance_backward_scale(results: Tuple, **arguments: Any) -> Tuple:
    return group_backward_scale(results, groups=arguments["x"].shape[1], **arguments)


def instance_gradients(dys: Tuple, **arguments: Any) -> dict[str, Any]:
    fastnn = importlib.import_module("fastnn")

    _, mean, inv_std = fastnn.instance_norm(**arguments)
    results = fastnn.instance_norm_backward(dys[0], arguments["x"], arguments.get("gamma"), mean, inv_std)
    return named(arguments, results)


def rms(x: Any, gamma: Any = None, *, axis: int = -1, eps: float | None = None, **_memory: Any) -> Tuple:
    eps = float(np.finfo(x.dtype).eps) if eps is None else eps
    inv = 1 / np.sqrt((x * x).mean(axis=_row_axes(x, axis), keepdims=True) + eps)
    y = x * inv * (1 if gamma is None else gamma)
    return y, inv.reshape(x.shape[: axis % x.ndim])


def _rms_backward_parts(dy: Any, x: Any, gamma: Any, inv_rms: Any, *, axis: int = -1) -> Tuple:
    axes = _row_axes(x, axis)
    inv = _like_row(inv_rms, x)
    weight = np.ones_like(x[(0,) * axes[0]]) if gamma is None else gamma
    dx, size = gradient(dy, x, inv, weight, axes, centred=False)
    outer, terms = tuple(range(axes[0])), dy * x * inv
    return (dx, terms.sum(axis=outer)), (size, abs(terms).sum(axis=outer))


def rms_backward(dgamma: Any = None, accumulate: bool = False, **arguments: Any) -> Tuple:
    results, _ = _rms_backward_parts(**arguments)
    return parameter_gradients(arguments["gamma"], results, (dgamma,), accumulate)


def rms_backward_scale(results: Tuple, dgamma: Any = None, accumulate: bool = False, **arguments: Any) -> Tuple:
    _, scales = _rms_backward_parts(**arguments)
    return parameter_gradients(arguments["gamma"], scales, magnitudes((dgamma,)), accumulate)


def rms_gradients(dys: Tuple, **arguments: Any) -> dict[str, Any]:
    fastnn = importlib.import_module("fastnn")

    _, inv_rms = fastnn.rms_norm(**arguments)
    gamma, axis = arguments.get("gamma"), arguments.get("axis", -1)
    return named(arguments, fastnn.rms_norm_backward(dys[0], arguments["x"], gamma, inv_rms, axis=axis))


# ---- examples ----


def layer_examples(rng: np.random.Generator) -> Iterator[Example]:
    yield with_memory({"x": 2 * rng.standard_normal((7, 100)) + 1, **random_parameters(rng, (100,))}, (7,))
    for shape, axis in (((2, 3, 4, 5), 2), ((3, 1), -1), ((33,), 0), ((9, 1, 16), -1), ((2, 5, 40), 1)):
        example = {"x": 2 * rng.standard_normal(shape) + 1, **random_parameters(rng, shape[axis:])}
        yield example if axis == -1 else {**example, "axis": axis, "eps": 1e-4}
    yield {"x": rng.standard_normal((4, 17))}


def layer_backward_examples(rng: np.random.Generator) -> Iterator[Example]:
    return with_gradient(rng, layer_examples(rng), layer)


def group_examples(rng: np.random.Generator) -> Iterator[Example]:
    for shape, groups in (((2, 6, 9, 8), 3), ((5, 8), 2), ((3, 4, 5), 1), ((2, 6, 7), 6), ((1, 2, 70), 2)):
        example = {"x": 2 * rng.standard_normal(shape) + 1, "groups": groups, **random_parameters(rng, (shape[1],))}
        if shape[0] == 1:
            example |= {"gamma": None, "beta": None, "eps": 1e-3}
        yield with_memory(example, (2, 3)) if groups == 3 else example


def group_backward_examples(rng: np.random.Generator) -> Iterator[Example]:
    return with_gradient(rng, group_examples(rng), group)


def instance_examples(rng: np.random.Generator) -> Iterator[Example]:
    for shape in ((2, 3, 8, 9), (3, 5, 7), (1, 1, 2, 2), (2, 1, 130)):
        example = {"x": 2 * rng.standard_normal(shape) + 1, **random_parameters(rng, (shape[1],))}
        if shape[0] == 1:
            example |= {"gamma": None, "beta": None, "eps": 1e-3}
        yield with_memory(example, (2, 3)) if shape[1] == 3 else example


def instance_backward_examples(rng: np.random.Generator) -> Iterator[Example]:
    return with_gradient(rng, instance_examples(rng), instance)


def rms_examples(rng: np.random.Generator) -> Iterator[Example]:
    first = {"x": rng.standard_normal((7, 100)), "gamma": rng.uniform(0.5, 2, 100), "eps": 1e-6}
    yield with_memory(first, (7,), "inv_rms")
    for shape, axis in (((2, 3, 4, 5), 2), ((3, 1), -1), ((33,), 0), ((9, 1, 16), -1)):
        gamma = rng.uniform(0.5, 2, shape[axis:])
        example = {"x": 2 * rng.standard_normal(shape) + 1, "gamma": gamma, "eps": 1e-6}
        yield example if axis == -1 else {**example, "axis": axis}
    yield {"x": rng.standard_normal((4, 17)), "eps": 1e-5}


def rms_backward_examples(rng: np.random.Generator) -> Iterator[Example]:
    return with_gradient(rng, rms_examples(rng), rms, ("inv_rms",), gradients=("dgamma",))
