"""Batch normalisation in float64: oracles, magnitudes that errors are counted in, gradients, examples worth testing."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastnn.generator import GRID, kept, threshold
from fastnn.table.normalization_oracles import (
    Example,
    Tuple,
    activate,
    activation_gradient,
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

_DROPOUT = ("dropout_p", "seed", "offset")
_OF_TRAINING = ("momentum", "mean", "inv_std")


def _dropped(value: Any, p: float, seed: int | None, offset: int) -> Any:
    """`value` behind dropout: NaN that is dropped is 0 too."""
    bound = threshold(p)
    if bound in (0, GRID):
        return value if bound == 0 else np.zeros_like(value)
    mask = kept(0, value.size, bound, seed or 0, offset).reshape(value.shape)
    return np.where(mask, value * (GRID / (GRID - bound)), 0)


def _by_channel(value: Any, x: Any) -> Any:
    return value.reshape(1, -1, *[1] * (x.ndim - 2))


def _batch_axes(x: Any) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def _affine(x: Any, d: Any, inv_std: Any, gamma: Any, beta: Any) -> Tuple:
    """z, and the magnitude of its terms."""
    one = inv_std.reshape(-1)
    gamma, beta = (_by_channel(p, x) for p in (or_else(gamma, 1, one), or_else(beta, 0, one)))
    xhat = d * inv_std
    return xhat * gamma + beta, (abs(xhat) + 1) * abs(gamma) + abs(beta)


def batch_train(
    x: Any,
    gamma: Any,
    beta: Any,
    running_mean: Any,
    running_var: Any,
    momentum: float = 0.1,
    eps: float = 1e-5,
    activation: Any = None,
    *,
    dropout_p: float = 0.0,
    seed: int | None = None,
    offset: int = 0,
    **_memory: Any,
) -> Tuple:
    mean, d, variance = moments(x, _batch_axes(x))
    inv_std = 1 / np.sqrt(variance + eps)
    z, _ = _affine(x, d, inv_std, gamma, beta)
    y = _dropped(activate(activation, z), dropout_p, seed, offset)
    return y, mean.reshape(-1), inv_std.reshape(-1)


def batch_train_scale(results: Tuple, **arguments: Any) -> Tuple:
    x = arguments["x"]
    y, mean, inv_std = results
    _, d, _ = moments(x, _batch_axes(x))
    _, size = _affine(x, d, _by_channel(inv_std, x), arguments["gamma"], arguments["beta"])
    return size / (1 - arguments.get("dropout_p", 0)) + abs(y), abs(mean) + 1 / inv_std, inv_std


def batch_infer(
    x: Any,
    gamma: Any,
    beta: Any,
    running_mean: Any,
    running_var: Any,
    eps: float = 1e-5,
    activation: Any = None,
) -> Any:
    inv_std = _by_channel(1 / np.sqrt(running_var + eps), x)
    return activate(activation, _affine(x, x - _by_channel(running_mean, x), inv_std, gamma, beta)[0])


def batch_infer_scale(y: Any, **arguments: Any) -> Any:
    x = arguments["x"]
    inv_std = _by_channel(1 / np.sqrt(arguments["running_var"] + arguments.get("eps", 1e-5)), x)
    d = x - _by_channel(arguments["running_mean"], x)
    return _affine(x, d, inv_std, arguments["gamma"], arguments["beta"])[1] + abs(y)


def _batch_backward_parts(
    dy: Any,
    x: Any,
    gamma: Any,
    mean: Any,
    inv_std: Any,
    *,
    beta: Any = None,
    activation: Any = None,
    dropout_p: float = 0.0,
    seed: int | None = None,
    offset: int = 0,
) -> Tuple:
    axes = _batch_axes(x)
    dy = _dropped(dy, dropout_p, seed, offset)
    _, d, _ = moments(x, axes)
    inv = _by_channel(inv_std, x)
    z, size = _affine(x, d, inv, gamma, beta)
    dz = activation_gradient(activation, z, dy)
    dx, dx_size = gradient(dz, d, inv, _by_channel(or_else(gamma, 1, inv_std), x), axes)
    magnitude = abs(dz) if activation is None else abs(dz) + abs(dy) * (1 + size)
    _, dx_size = gradient(magnitude, d, inv, _by_channel(or_else(gamma, 1, inv_std), x), axes)
    results = dx, (dz * d * inv).sum(axis=axes), dz.sum(axis=axes)
    scales = dx_size, (magnitude * (abs(d * inv) + 1)).sum(axis=axes), magnitude.sum(axis=axes)
    return results, scales


def batch_backward(dgamma: Any = None, dbeta: Any = None, accumulate: bool = False, **arguments: Any) -> Tuple:
    results, _ = _batch_backward_parts(**arguments)
    return parameter_gradients(arguments["gamma"], results, (dgamma, dbeta), accumulate)


def batch_backward_scale(
    results: Tuple, dgamma: Any = None, dbeta: Any = None, accumulate: bool = False, **arguments: Any
) -> Tuple:
    _, scales = _batch_backward_parts(**arguments)
    return parameter_gradients(arguments["gamma"], scales, magnitudes((dgamma, dbeta)), accumulate)


def batch_gradients(dys: Tuple, **arguments: Any) -> dict[str, Any]:
    fastnn = importlib.import_module("fastnn")

    more = {name: arguments[name] for name in ("momentum", "eps", "activation", *_DROPOUT) if name in arguments}
    names = ("x", "gamma", "beta", "running_mean", "running_var")
    x, gamma, beta, *running = (arguments[name] for name in names)
    _, mean, inv_std = fastnn.batch_norm_train(x, gamma, beta, *running, **more)
    more = {name: arguments[name] for name in ("activation", *_DROPOUT) if name in arguments}
    results = fastnn.batch_norm_backward(dys[0], x, gamma, mean, inv_std, beta=beta, **more)
    return named(arguments, results)


# ---- examples ----

_BATCH_SHAPES = ((4, 3, 9, 11), (130, 5), (2, 1, 8, 9), (1, 4, 49), (2, 70), (3, 20, 7), (2, 2, 1, 1))


def batch_examples(rng: np.random.Generator) -> Iterator[Example]:
    extras: list[Example] = [
        {"activation": "relu"},
        {"momentum": 0.3, "eps": 1e-3},
        {"activation": ("leaky_relu", 0.1)},
        {"activation": "tanh", "dropout_p": 0.3, "seed": 5, "offset": 2},
        {"gamma": None, "beta": None, "running_mean": None, "running_var": None},
        {"activation": "silu"},
        {"dropout_p": 0.5, "seed": 2**63 + 1},
    ]
    for index, (shape, more) in enumerate(zip(_BATCH_SHAPES, extras, strict=True)):
        channels = shape[1]
        x = 3 * rng.standard_normal(shape) + 2
        running = {"running_mean": rng.standard_normal(channels), "running_var": rng.uniform(0.5, 2, channels)}
        example = {"x": x, **random_parameters(rng, (channels,)), **running, **more}
        yield with_memory(example, (channels,)) if index == 0 else example


def infer_examples(rng: np.random.Generator) -> Iterator[Example]:
    for example in batch_examples(rng):
        channels = example["x"].shape[1]
        example = {name: value for name, value in example.items() if name not in (*_OF_TRAINING, *_DROPOUT)}
        example |= {"running_mean": rng.standard_normal(channels), "running_var": rng.uniform(0.5, 2, channels)}
        yield example


def batch_backward_examples(rng: np.random.Generator) -> Iterator[Example]:
    for example in with_gradient(rng, batch_examples(rng), batch_train, more=("beta", "activation", *_DROPOUT)):
        if "activation" not in example:
            example.pop("beta", None)
        yield example
