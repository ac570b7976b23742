"""Normalisation in float64: oracles, magnitudes that errors are counted in, gradients, and examples worth testing."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastnn.generator import GRID, kept, threshold
from fastnn.oracle import numpy64
from fastnn.table.activations import OPS

Example = dict[str, Any]
Tuple = tuple[Any, ...]

_DROPOUT = ("dropout_p", "seed", "offset")

# ---- oracles: statistics over some axes, kept as axes of length 1 ----


def moments(x: Any, axes: tuple[int, ...]) -> Tuple:
    """mean, x - mean and the biased variance; what the mean lost in rounding is added to the difference."""
    mean = x.mean(axis=axes, keepdims=True)
    d = x - mean
    rest = d.mean(axis=axes, keepdims=True)
    rest = np.where(np.isfinite(rest), rest, 0)
    d = d - rest
    return mean + rest, d, (d * d).mean(axis=axes, keepdims=True)


def activate(activation: Any, z: Any) -> Any:
    if activation is None:
        return z
    op, params = _op(activation)
    return op.forward(numpy64, z, *params)


def activation_gradient(activation: Any, z: Any, dy: Any) -> Any:
    if activation is None:
        return dy
    op, params = _op(activation)
    return dy * op.gradient(numpy64, op.saved_for_backward(z, op.forward(numpy64, z, *params)), *params)


def _op(activation: Any) -> Tuple:
    name, *given = activation if isinstance(activation, tuple) else (activation,)
    op = OPS[name]
    return op, [*given, *op.parameters_default[len(given) :]]


def _dropped(value: Any, p: float, seed: int | None, offset: int) -> Any:
    """`value` behind dropout: NaN that is dropped is 0 too."""
    bound = threshold(p)
    if bound in (0, GRID):
        return value if bound == 0 else np.zeros_like(value)
    mask = kept(0, value.size, bound, seed or 0, offset).reshape(value.shape)
    return np.where(mask, value * (GRID / (GRID - bound)), 0)


def _or(value: Any, otherwise: float, like: Any) -> Any:
    return np.full_like(like, otherwise) if value is None else value


def gradient(dy: Any, d: Any, inv_std: Any, gamma: Any, axes: tuple[int, ...], centred: bool = True) -> Tuple:
    """dx and the magnitude of its terms, of y = d inv_std gamma + beta."""
    g, xhat = dy * gamma, d * inv_std
    mean_g = g.mean(axis=axes, keepdims=True) if centred else 0
    mean_gx = (g * xhat).mean(axis=axes, keepdims=True)
    size = abs(g) + (abs(xhat) + 1) * (abs(g) * (abs(xhat) + 1)).mean(axis=axes, keepdims=True)
    if centred:
        size = size + abs(g).mean(axis=axes, keepdims=True)
    return inv_std * (g - mean_g - xhat * mean_gx), inv_std * size


# ---- batch norm ----


def _by_channel(value: Any, x: Any) -> Any:
    return value.reshape(1, -1, *[1] * (x.ndim - 2))


def _batch_axes(x: Any) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def _affine(x: Any, d: Any, inv_std: Any, gamma: Any, beta: Any) -> Tuple:
    """z, and the magnitude of its terms."""
    one = inv_std.reshape(-1)
    gamma, beta = (_by_channel(p, x) for p in (_or(gamma, 1, one), _or(beta, 0, one)))
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
    dx, dx_size = gradient(dz, d, inv, _by_channel(_or(gamma, 1, inv_std), x), axes)
    magnitude = abs(dz) if activation is None else abs(dz) + abs(dy) * (1 + size)
    _, dx_size = gradient(magnitude, d, inv, _by_channel(_or(gamma, 1, inv_std), x), axes)
    results = dx, (dz * d * inv).sum(axis=axes), dz.sum(axis=axes)
    scales = dx_size, (magnitude * (abs(d * inv) + 1)).sum(axis=axes), magnitude.sum(axis=axes)
    return results, scales


def _without(gamma: Any, results: Tuple) -> Tuple:
    return results if gamma is not None else (results[0], *[None] * (len(results) - 1))


def batch_backward(dy: Any, x: Any, gamma: Any, mean: Any, inv_std: Any, **more: Any) -> Tuple:
    return _without(gamma, _batch_backward_parts(dy, x, gamma, mean, inv_std, **more)[0])


def batch_backward_scale(results: Tuple, **arguments: Any) -> Tuple:
    return _without(arguments["gamma"], _batch_backward_parts(**arguments)[1])


def batch_gradients(dys: Tuple, **arguments: Any) -> dict[str, Any]:
    fastnn = importlib.import_module("fastnn")

    more = {name: arguments[name] for name in ("momentum", "eps", "activation", *_DROPOUT) if name in arguments}
    names = ("x", "gamma", "beta", "running_mean", "running_var")
    x, gamma, beta, *running = (arguments[name] for name in names)
    _, mean, inv_std = fastnn.batch_norm_train(x, gamma, beta, *running, **more)
    more = {name: arguments[name] for name in ("activation", *_DROPOUT) if name in arguments}
    results = fastnn.batch_norm_backward(dys[0], x, gamma, mean, inv_std, beta=beta, **more)
    return _named(arguments, results)


def _named(arguments: Example, results: Tuple) -> dict[str, Any]:
    """Gradients by name, of the arguments that have one."""
    pairs = zip(("x", "gamma", "beta"), results, strict=False)
    return {name: value for name, value in pairs if value is not None and arguments.get(name) is not None}


# ---- layer, group, instance and RMS norm ----


def _row_axes(x: Any, axis: int) -> tuple[int, ...]:
    return tuple(range(axis % x.ndim, x.ndim))


def layer(x: Any, gamma: Any = None, beta: Any = None, *, axis: int = -1, eps: float = 1e-5) -> Tuple:
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


def layer_backward(dy: Any, x: Any, gamma: Any, mean: Any, inv_std: Any, *, axis: int = -1) -> Tuple:
    return _without(gamma, _layer_backward_parts(dy, x, gamma, mean, inv_std, axis=axis)[0])


def layer_backward_scale(results: Tuple, **arguments: Any) -> Tuple:
    return _without(arguments["gamma"], _layer_backward_parts(**arguments)[1])


def layer_gradients(dys: Tuple, **arguments: Any) -> dict[str, Any]:
    fastnn = importlib.import_module("fastnn")

    _, mean, inv_std = fastnn.layer_norm(**arguments)
    gamma, axis = arguments.get("gamma"), arguments.get("axis", -1)
    results = fastnn.layer_norm_backward(dys[0], arguments["x"], gamma, mean, inv_std, axis=axis)
    return _named(arguments, results)


def _grouped(x: Any, groups: int) -> Any:
    return x.reshape(x.shape[0], groups, x.shape[1] // groups, -1)


def _of_group(p: Any, groups: int) -> Any:
    return p.reshape(1, groups, -1, 1)


def _group_parts(x: Any, groups: int, gamma: Any, beta: Any, eps: float) -> Tuple:
    wide = _grouped(x, groups)
    mean, d, variance = moments(wide, (2, 3))
    inv_std = 1 / np.sqrt(variance + eps)
    channel = wide[0, :, :, 0].reshape(-1)
    gamma, beta = (_of_group(p, groups) for p in (_or(gamma, 1, channel), _or(beta, 0, channel)))
    y = (d * inv_std * gamma + beta).reshape(x.shape)
    size = ((abs(d * inv_std) + 1) * abs(gamma) + abs(beta)).reshape(x.shape)
    mean, inv_std = mean[:, :, 0, 0], inv_std[:, :, 0, 0]
    return (y, mean, inv_std), (size, abs(mean) + 1 / inv_std, inv_std)


def group(x: Any, groups: int, gamma: Any = None, beta: Any = None, eps: float = 1e-5) -> Tuple:
    return tuple(_group_parts(x, groups, gamma, beta, eps)[0])


def group_scale(results: Tuple, **arguments: Any) -> Tuple:
    defaults = {"gamma": None, "beta": None, "eps": 1e-5}
    return tuple(_group_parts(**{**defaults, **arguments})[1])


def _group_backward_parts(dy: Any, x: Any, groups: int, gamma: Any, mean: Any, inv_std: Any) -> Tuple:
    wide, wide_dy = _grouped(x, groups), _grouped(dy, groups)
    _, d, _ = moments(wide, (2, 3))
    inv = inv_std[:, :, None, None]
    weight = _of_group(_or(gamma, 1, wide[0, :, :, 0].reshape(-1)), groups)
    dx, size = gradient(wide_dy, d, inv, weight, (2, 3))
    terms = wide_dy * d * inv
    results = dx.reshape(x.shape), terms.sum(axis=(0, 3)).reshape(-1), wide_dy.sum(axis=(0, 3)).reshape(-1)
    sizes = abs(wide_dy) * (abs(d * inv) + 1)
    scales = sizes.sum(axis=(0, 3)).reshape(-1), abs(wide_dy).sum(axis=(0, 3)).reshape(-1)
    return results, (size.reshape(x.shape), *scales)


def group_backward(dy: Any, x: Any, groups: int, gamma: Any, mean: Any, inv_std: Any) -> Tuple:
    return _without(gamma, _group_backward_parts(dy, x, groups, gamma, mean, inv_std)[0])


def group_backward_scale(results: Tuple, **arguments: Any) -> Tuple:
    return _without(arguments["gamma"], _group_backward_parts(**arguments)[1])


def group_gradients(dys: Tuple, **arguments: Any) -> dict[str, Any]:
    fastnn = importlib.import_module("fastnn")

    _, mean, inv_std = fastnn.group_norm(**arguments)
    x, groups, gamma = arguments["x"], arguments["groups"], arguments.get("gamma")
    return _named(arguments, fastnn.group_norm_backward(dys[0], x, groups, gamma, mean, inv_std))


def instance(x: Any, gamma: Any = None, beta: Any = None, eps: float = 1e-5) -> Tuple:
    return group(x, x.shape[1], gamma, beta, eps)


def instance_scale(results: Tuple, **arguments: Any) -> Tuple:
    return group_scale(results, groups=arguments["x"].shape[1], **arguments)


def instance_backward(dy: Any, x: Any, gamma: Any, mean: Any, inv_std: Any) -> Tuple:
    return group_backward(dy, x, x.shape[1], gamma, mean, inv_std)


def instance_backward_scale(results: Tuple, **arguments: Any) -> Tuple:
    return group_backward_scale(results, groups=arguments["x"].shape[1], **arguments)


def instance_gradients(dys: Tuple, **arguments: Any) -> dict[str, Any]:
    fastnn = importlib.import_module("fastnn")

    _, mean, inv_std = fastnn.instance_norm(**arguments)
    results = fastnn.instance_norm_backward(dys[0], arguments["x"], arguments.get("gamma"), mean, inv_std)
    return _named(arguments, results)


def rms(x: Any, gamma: Any = None, *, axis: int = -1, eps: float | None = None) -> Tuple:
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


def rms_backward(dy: Any, x: Any, gamma: Any, inv_rms: Any, *, axis: int = -1) -> Tuple:
    return _without(gamma, _rms_backward_parts(dy, x, gamma, inv_rms, axis=axis)[0])


def rms_backward_scale(results: Tuple, **arguments: Any) -> Tuple:
    return _without(arguments["gamma"], _rms_backward_parts(**arguments)[1])


def rms_gradients(dys: Tuple, **arguments: Any) -> dict[str, Any]:
    fastnn = importlib.import_module("fastnn")

    _, inv_rms = fastnn.rms_norm(**arguments)
    gamma, axis = arguments.get("gamma"), arguments.get("axis", -1)
    return _named(arguments, fastnn.rms_norm_backward(dys[0], arguments["x"], gamma, inv_rms, axis=axis))


# ---- examples ----

_BATCH_SHAPES = ((4, 3, 9, 11), (130, 5), (2, 1, 8, 9), (1, 4, 49), (2, 70), (3, 20, 7), (2, 2, 1, 1))


def _parameters(rng: np.random.Generator, shape: tuple[int, ...]) -> Example:
    return {"gamma": rng.uniform(0.5, 2, shape) * rng.choice([-1, 1], shape), "beta": rng.standard_normal(shape)}


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
    for shape, more in zip(_BATCH_SHAPES, extras, strict=True):
        channels = shape[1]
        x = 3 * rng.standard_normal(shape) + 2
        running = {"running_mean": rng.standard_normal(channels), "running_var": rng.uniform(0.5, 2, channels)}
        yield {"x": x, **_parameters(rng, (channels,)), **running, **more}


def infer_examples(rng: np.random.Generator) -> Iterator[Example]:
    for example in batch_examples(rng):
        channels = example["x"].shape[1]
        example = {name: value for name, value in example.items() if name not in ("momentum", *_DROPOUT)}
        example |= {"running_mean": rng.standard_normal(channels), "running_var": rng.uniform(0.5, 2, channels)}
        yield example


def _with_gradient(rng: np.random.Generator, example: Example, forward: Callable[..., Tuple], names: Tuple) -> Example:
    """The arguments of backward: those of forward, dy, and the statistics."""
    _, *statistics = forward(**example)
    kept = {name: example[name] for name in ("x", "groups", "gamma", "axis") if name in example}
    found = zip(names, statistics, strict=True)
    return {"dy": rng.standard_normal(example["x"].shape), "gamma": None, **kept, **dict(found)}


def batch_backward_examples(rng: np.random.Generator) -> Iterator[Example]:
    for example in batch_examples(rng):
        found = _with_gradient(rng, example, batch_train, ("mean", "inv_std"))
        more = [*(["beta", "activation"] if "activation" in example else []), *_DROPOUT]
        yield found | {name: example[name] for name in more if name in example}


def layer_examples(rng: np.random.Generator) -> Iterator[Example]:
    for shape, axis in (((7, 100), -1), ((2, 3, 4, 5), 2), ((3, 1), -1), ((33,), 0), ((9, 1, 16), -1), ((2, 5, 40), 1)):
        example = {"x": 2 * rng.standard_normal(shape) + 1, **_parameters(rng, shape[axis:])}
        yield example if axis == -1 else {**example, "axis": axis, "eps": 1e-4}
    yield {"x": rng.standard_normal((4, 17))}


def layer_backward_examples(rng: np.random.Generator) -> Iterator[Example]:
    for example in layer_examples(rng):
        yield _with_gradient(rng, example, layer, ("mean", "inv_std"))


def group_examples(rng: np.random.Generator) -> Iterator[Example]:
    for shape, groups in (((2, 6, 9, 8), 3), ((5, 8), 2), ((3, 4, 5), 1), ((2, 6, 7), 6), ((1, 2, 70), 2)):
        example = {"x": 2 * rng.standard_normal(shape) + 1, "groups": groups, **_parameters(rng, (shape[1],))}
        yield example if shape[0] > 1 else {**example, "gamma": None, "beta": None, "eps": 1e-3}


def group_backward_examples(rng: np.random.Generator) -> Iterator[Example]:
    for example in group_examples(rng):
        yield _with_gradient(rng, example, group, ("mean", "inv_std"))


def instance_examples(rng: np.random.Generator) -> Iterator[Example]:
    for shape in ((2, 3, 8, 9), (3, 5, 7), (1, 1, 2, 2), (2, 1, 130)):
        example = {"x": 2 * rng.standard_normal(shape) + 1, **_parameters(rng, (shape[1],))}
        yield example if shape[0] > 1 else {**example, "gamma": None, "beta": None, "eps": 1e-3}


def instance_backward_examples(rng: np.random.Generator) -> Iterator[Example]:
    for example in instance_examples(rng):
        yield _with_gradient(rng, example, instance, ("mean", "inv_std"))


def rms_examples(rng: np.random.Generator) -> Iterator[Example]:
    for shape, axis in (((7, 100), -1), ((2, 3, 4, 5), 2), ((3, 1), -1), ((33,), 0), ((9, 1, 16), -1)):
        gamma = rng.uniform(0.5, 2, shape[axis:])
        example = {"x": 2 * rng.standard_normal(shape) + 1, "gamma": gamma, "eps": 1e-6}
        yield example if axis == -1 else {**example, "axis": axis}
    yield {"x": rng.standard_normal((4, 17)), "eps": 1e-5}


def rms_backward_examples(rng: np.random.Generator) -> Iterator[Example]:
    for example in rms_examples(rng):
        yield _with_gradient(rng, example, rms, ("inv_rms",))
