"""Rows of the family `normalization`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastnn.function import Argument, Function
from fastnn.oracle import numpy64
from fastnn.table.activations import OPS

Example = dict[str, Any]
Tuple = tuple[Any, ...]

CONVENTION = (
    "running = momentum * batch + (1 - momentum) * running: momentum is the weight of the new batch, as in PyTorch. The "
    "biased variance (divided by n) normalises; the unbiased one (by n - 1) goes into the running average."
)
STATISTICS = (
    "Statistics are sums in double of x less a number near its mean, over 16 fixed lanes: stable for any mean and any "
    "number of elements, and the same for any number of threads. A second pass, over the cache where a channel fits it, "
    "subtracts the mean in two parts, which a float alone would cut off."
)
COPIES = "Arrays that are not C-contiguous are copied first (channels-last images too)."

# ---- arguments that rows share ----

_X = Argument(name="x", role="array", doc="array of shape (N, C) or (N, C, *spatial); channels are axis 1")
_ROW_X = Argument(name="x", role="array", doc="array of one axis or more")
_GROUP_X = Argument(name="x", role="array", doc="array of shape (N, C) or (N, C, *spatial)")
_DY = Argument(name="dy", role="array", doc="gradient of the loss by y, of x's shape")
_SAVED_X = Argument(name="x", role="array", doc="the x of the forward pass")
_OUT = Argument(name="out", doc="array of x's shape and dtype to write y into; it may be x itself")
_OUT_DX = Argument(name="out", doc="array of x's shape and dtype to write dx into; it may be dy or x itself")
_ACTIVATION = Argument(
    name="activation",
    doc="activation applied to y while it is in the cache: a name, or a tuple of a name and its parameters",
)
_GAMMA = Argument(name="gamma", role="parameter", doc="scale of each channel, of shape (C,); None for 1")
_BETA = Argument(name="beta", role="parameter", doc="shift of each channel, of shape (C,); None for 0")
_EPS = Argument(name="eps", doc="number added to the variance, above 0")
_Y = Argument(name="y", doc="array of x's shape and dtype")
_DX = Argument(name="dx", doc="array of x's shape and dtype")
_DGAMMA = Argument(name="dgamma", doc="gradient by gamma, in its shape; None where gamma is None")
_DBETA = Argument(name="dbeta", doc="gradient by beta, in gamma's shape; None where gamma is None")
_AXIS = Argument(name="axis", doc="the first of the axes that are normalised together: this one and all after it")


def _statistic(name: str, what: str, shape: str, role: str = "option") -> Argument:
    kind = "float64 for float64 x, float32 for the others"
    return Argument(name=name, role=role, doc=f"{what}, of shape {shape}, {kind}")


def _statistics(shape: str, role: str = "option") -> tuple[Argument, Argument]:
    return (
        _statistic("mean", "mean", shape, role),
        _statistic("inv_std", "1 / sqrt(biased variance + eps)", shape, role),
    )


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


def _batch_train(
    x: Any,
    gamma: Any,
    beta: Any,
    running_mean: Any,
    running_var: Any,
    momentum: float = 0.1,
    eps: float = 1e-5,
    activation: Any = None,
) -> Tuple:
    mean, d, variance = moments(x, _batch_axes(x))
    inv_std = 1 / np.sqrt(variance + eps)
    z, _ = _affine(x, d, inv_std, gamma, beta)
    return activate(activation, z), mean.reshape(-1), inv_std.reshape(-1)


def _batch_train_scale(results: Tuple, **arguments: Any) -> Tuple:
    x = arguments["x"]
    y, mean, inv_std = results
    _, d, _ = moments(x, _batch_axes(x))
    _, size = _affine(x, d, _by_channel(inv_std, x), arguments["gamma"], arguments["beta"])
    return size + abs(y), abs(mean) + 1 / inv_std, inv_std


def _batch_infer(
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


def _batch_infer_scale(y: Any, **arguments: Any) -> Any:
    x = arguments["x"]
    inv_std = _by_channel(1 / np.sqrt(arguments["running_var"] + arguments.get("eps", 1e-5)), x)
    d = x - _by_channel(arguments["running_mean"], x)
    return _affine(x, d, inv_std, arguments["gamma"], arguments["beta"])[1] + abs(y)


def _batch_backward_parts(
    dy: Any, x: Any, gamma: Any, mean: Any, inv_std: Any, *, beta: Any = None, activation: Any = None
) -> Tuple:
    axes = _batch_axes(x)
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


def _batch_backward(dy: Any, x: Any, gamma: Any, mean: Any, inv_std: Any, **more: Any) -> Tuple:
    return _without(gamma, _batch_backward_parts(dy, x, gamma, mean, inv_std, **more)[0])


def _batch_backward_scale(results: Tuple, **arguments: Any) -> Tuple:
    return _without(arguments["gamma"], _batch_backward_parts(**arguments)[1])


def _batch_gradients(dys: Tuple, **arguments: Any) -> dict[str, Any]:
    import fastnn

    more = {name: arguments[name] for name in ("momentum", "eps", "activation") if name in arguments}
    names = ("x", "gamma", "beta", "running_mean", "running_var")
    x, gamma, beta, *running = (arguments[name] for name in names)
    _, mean, inv_std = fastnn.batch_norm_train(x, gamma, beta, *running, **more)
    activation = arguments.get("activation")
    results = fastnn.batch_norm_backward(dys[0], x, gamma, mean, inv_std, beta=beta, activation=activation)
    return _named(arguments, results)


def _named(arguments: Example, results: Tuple) -> dict[str, Any]:
    """Gradients by name, of the arguments that have one."""
    pairs = zip(("x", "gamma", "beta"), results, strict=False)
    return {name: value for name, value in pairs if value is not None and arguments.get(name) is not None}


# ---- layer, group, instance and RMS norm ----


def _row_axes(x: Any, axis: int) -> tuple[int, ...]:
    return tuple(range(axis % x.ndim, x.ndim))


def _layer(x: Any, gamma: Any = None, beta: Any = None, *, axis: int = -1, eps: float = 1e-5) -> Tuple:
    axes = _row_axes(x, axis)
    mean, d, variance = moments(x, axes)
    inv_std = 1 / np.sqrt(variance + eps)
    y = d * inv_std * (1 if gamma is None else gamma) + (0 if beta is None else beta)
    shape = x.shape[: axes[0]]
    return y, mean.reshape(shape), inv_std.reshape(shape)


def _layer_scale(results: Tuple, **arguments: Any) -> Tuple:
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


def _layer_backward(dy: Any, x: Any, gamma: Any, mean: Any, inv_std: Any, *, axis: int = -1) -> Tuple:
    return _without(gamma, _layer_backward_parts(dy, x, gamma, mean, inv_std, axis=axis)[0])


def _layer_backward_scale(results: Tuple, **arguments: Any) -> Tuple:
    return _without(arguments["gamma"], _layer_backward_parts(**arguments)[1])


def _layer_gradients(dys: Tuple, **arguments: Any) -> dict[str, Any]:
    import fastnn

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


def _group(x: Any, groups: int, gamma: Any = None, beta: Any = None, eps: float = 1e-5) -> Tuple:
    return tuple(_group_parts(x, groups, gamma, beta, eps)[0])


def _group_scale(results: Tuple, **arguments: Any) -> Tuple:
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


def _group_backward(dy: Any, x: Any, groups: int, gamma: Any, mean: Any, inv_std: Any) -> Tuple:
    return _without(gamma, _group_backward_parts(dy, x, groups, gamma, mean, inv_std)[0])


def _group_backward_scale(results: Tuple, **arguments: Any) -> Tuple:
    return _without(arguments["gamma"], _group_backward_parts(**arguments)[1])


def _group_gradients(dys: Tuple, **arguments: Any) -> dict[str, Any]:
    import fastnn

    _, mean, inv_std = fastnn.group_norm(**arguments)
    x, groups, gamma = arguments["x"], arguments["groups"], arguments.get("gamma")
    return _named(arguments, fastnn.group_norm_backward(dys[0], x, groups, gamma, mean, inv_std))


def _instance(x: Any, gamma: Any = None, beta: Any = None, eps: float = 1e-5) -> Tuple:
    return _group(x, x.shape[1], gamma, beta, eps)


def _instance_scale(results: Tuple, **arguments: Any) -> Tuple:
    return _group_scale(results, groups=arguments["x"].shape[1], **arguments)


def _instance_backward(dy: Any, x: Any, gamma: Any, mean: Any, inv_std: Any) -> Tuple:
    return _group_backward(dy, x, x.shape[1], gamma, mean, inv_std)


def _instance_backward_scale(results: Tuple, **arguments: Any) -> Tuple:
    return _group_backward_scale(results, groups=arguments["x"].shape[1], **arguments)


def _instance_gradients(dys: Tuple, **arguments: Any) -> dict[str, Any]:
    import fastnn

    _, mean, inv_std = fastnn.instance_norm(**arguments)
    results = fastnn.instance_norm_backward(dys[0], arguments["x"], arguments.get("gamma"), mean, inv_std)
    return _named(arguments, results)


def _rms(x: Any, gamma: Any = None, *, axis: int = -1, eps: float | None = None) -> Tuple:
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


def _rms_backward(dy: Any, x: Any, gamma: Any, inv_rms: Any, *, axis: int = -1) -> Tuple:
    return _without(gamma, _rms_backward_parts(dy, x, gamma, inv_rms, axis=axis)[0])


def _rms_backward_scale(results: Tuple, **arguments: Any) -> Tuple:
    return _without(arguments["gamma"], _rms_backward_parts(**arguments)[1])


def _rms_gradients(dys: Tuple, **arguments: Any) -> dict[str, Any]:
    import fastnn

    _, inv_rms = fastnn.rms_norm(**arguments)
    gamma, axis = arguments.get("gamma"), arguments.get("axis", -1)
    return _named(arguments, fastnn.rms_norm_backward(dys[0], arguments["x"], gamma, inv_rms, axis=axis))


# ---- examples ----

_BATCH_SHAPES = ((4, 3, 9, 11), (130, 5), (2, 1, 8, 9), (1, 4, 49), (2, 70), (3, 20, 7), (2, 2, 1, 1))


def _parameters(rng: np.random.Generator, shape: tuple[int, ...]) -> Example:
    return {"gamma": rng.uniform(0.5, 2, shape) * rng.choice([-1, 1], shape), "beta": rng.standard_normal(shape)}


def _batch_examples(rng: np.random.Generator) -> Iterator[Example]:
    extras: list[Example] = [
        {"activation": "relu"},
        {"momentum": 0.3, "eps": 1e-3},
        {"activation": ("leaky_relu", 0.1)},
        {"activation": "tanh"},
        {"gamma": None, "beta": None, "running_mean": None, "running_var": None},
        {"activation": "silu"},
        {},
    ]
    for shape, more in zip(_BATCH_SHAPES, extras, strict=True):
        channels = shape[1]
        x = 3 * rng.standard_normal(shape) + 2
        running = {"running_mean": rng.standard_normal(channels), "running_var": rng.uniform(0.5, 2, channels)}
        yield {"x": x, **_parameters(rng, (channels,)), **running, **more}


def _infer_examples(rng: np.random.Generator) -> Iterator[Example]:
    for example in _batch_examples(rng):
        channels = example["x"].shape[1]
        example.pop("momentum", None)
        example |= {"running_mean": rng.standard_normal(channels), "running_var": rng.uniform(0.5, 2, channels)}
        yield example


def _with_gradient(rng: np.random.Generator, example: Example, forward: Callable[..., Tuple], names: Tuple) -> Example:
    """The arguments of backward: those of forward, dy, and the statistics."""
    _, *statistics = forward(**example)
    kept = {name: example[name] for name in ("x", "groups", "gamma", "axis") if name in example}
    found = zip(names, statistics, strict=True)
    return {"dy": rng.standard_normal(example["x"].shape), "gamma": None, **kept, **dict(found)}


def _batch_backward_examples(rng: np.random.Generator) -> Iterator[Example]:
    for example in _batch_examples(rng):
        found = _with_gradient(rng, example, _batch_train, ("mean", "inv_std"))
        yield found | {name: example[name] for name in ("beta", "activation") if "activation" in example}


def _layer_examples(rng: np.random.Generator) -> Iterator[Example]:
    for shape, axis in (((7, 100), -1), ((2, 3, 4, 5), 2), ((3, 1), -1), ((33,), 0), ((9, 1, 16), -1), ((2, 5, 40), 1)):
        example = {"x": 2 * rng.standard_normal(shape) + 1, **_parameters(rng, shape[axis:])}
        yield example if axis == -1 else {**example, "axis": axis, "eps": 1e-4}
    yield {"x": rng.standard_normal((4, 17))}


def _layer_backward_examples(rng: np.random.Generator) -> Iterator[Example]:
    for example in _layer_examples(rng):
        yield _with_gradient(rng, example, _layer, ("mean", "inv_std"))


def _group_examples(rng: np.random.Generator) -> Iterator[Example]:
    for shape, groups in (((2, 6, 9, 8), 3), ((5, 8), 2), ((3, 4, 5), 1), ((2, 6, 7), 6), ((1, 2, 70), 2)):
        example = {"x": 2 * rng.standard_normal(shape) + 1, "groups": groups, **_parameters(rng, (shape[1],))}
        yield example if shape[0] > 1 else {**example, "gamma": None, "beta": None, "eps": 1e-3}


def _group_backward_examples(rng: np.random.Generator) -> Iterator[Example]:
    for example in _group_examples(rng):
        yield _with_gradient(rng, example, _group, ("mean", "inv_std"))


def _instance_examples(rng: np.random.Generator) -> Iterator[Example]:
    for shape in ((2, 3, 8, 9), (3, 5, 7), (1, 1, 2, 2), (2, 1, 130)):
        example = {"x": 2 * rng.standard_normal(shape) + 1, **_parameters(rng, (shape[1],))}
        yield example if shape[0] > 1 else {**example, "gamma": None, "beta": None, "eps": 1e-3}


def _instance_backward_examples(rng: np.random.Generator) -> Iterator[Example]:
    for example in _instance_examples(rng):
        yield _with_gradient(rng, example, _instance, ("mean", "inv_std"))


def _rms_examples(rng: np.random.Generator) -> Iterator[Example]:
    for shape, axis in (((7, 100), -1), ((2, 3, 4, 5), 2), ((3, 1), -1), ((33,), 0), ((9, 1, 16), -1)):
        gamma = rng.uniform(0.5, 2, shape[axis:])
        example = {"x": 2 * rng.standard_normal(shape) + 1, "gamma": gamma, "eps": 1e-6}
        yield example if axis == -1 else {**example, "axis": axis}
    yield {"x": rng.standard_normal((4, 17)), "eps": 1e-5}


def _rms_backward_examples(rng: np.random.Generator) -> Iterator[Example]:
    for example in _rms_examples(rng):
        yield _with_gradient(rng, example, _rms, ("inv_rms",))


# ---- rows ----

_BATCH_SOURCE = "Ioffe and Szegedy (2015), Batch Normalization, ICML"
_LAYER_SOURCE = "Ba, Kiros and Hinton (2016), Layer Normalization"
_GROUP_SOURCE = "Wu and He (2018), Group Normalization, ECCV"
_INSTANCE_SOURCE = "Ulyanov, Vedaldi and Lempitsky (2016), Instance Normalization"
_RMS_SOURCE = "Zhang and Sennrich (2019), Root Mean Square Layer Normalization, NeurIPS"
_Y_FORMULA = "y = (x - mean) / sqrt(variance + eps) * gamma + beta"
_BACKWARD_FORMULA = (
    "xhat = (x - mean) inv_std, g = dy gamma: dx = inv_std (g - mean(g) - xhat mean(g xhat)), "
    "dgamma = sum(dy xhat), dbeta = sum(dy)"
)
_LOST = "What mean lost when it was rounded is found again from x, so that xhat is as accurate as in the forward pass."
_READ_ONCE = "reads x once from memory if a {} fits the second-level cache, else twice; writes y once"
_READ_BOTH = "reads x and dy once from memory if a {} fits the second-level cache, else twice; writes dx once"
_FORWARD_OPERATIONS = "about 8 an element, of which 4 in double"
_BACKWARD_OPERATIONS = "about 12 an element, of which 6 in double"
_NO_MEMORY = "No memory beyond the results but for some numbers a channel."

ROWS: tuple[Function, ...] = (
    Function(
        name="batch_norm_train",
        family="normalization",
        title="Batch normalisation with the statistics of the batch, which it adds to running averages",
        formula=f"{_Y_FORMULA}, mean and variance by channel over the batch and all positions",
        arguments=(
            _X,
            _GAMMA,
            _BETA,
            Argument(
                name="running_mean",
                role="parameter",
                doc="running average of the mean, of shape (C,), any float dtype, updated in place; None for none",
            ),
            Argument(
                name="running_var",
                role="parameter",
                doc="running average of the unbiased variance, of shape (C,), updated in place; None for none",
            ),
            Argument(name="momentum", doc="weight of this batch in the running averages, from 0 to 1"),
            _EPS,
            _ACTIVATION,
            _OUT,
        ),
        returns=(_Y, *_statistics("(C,)")),
        source=_BATCH_SOURCE,
        notes=(
            CONVENTION,
            STATISTICS,
            f"{COPIES} {_NO_MEMORY}",
            "With an activation y is the same, to the last bit in float32 and float64, as that of two calls; the "
            "activation runs over blocks of some thousand numbers that are in the cache.",
            "A batch with one value a channel has no variance and is refused.",
        ),
        oracle=_batch_train,
        examples=_batch_examples,
        ulp=(4.0, 2.0, 4.0),
        scale=_batch_train_scale,
        gradients=_batch_gradients,
        bytes=_READ_ONCE.format("channel"),
        operations=_FORWARD_OPERATIONS,
    ),
    Function(
        name="batch_norm_infer",
        family="normalization",
        title="Batch normalisation with running averages for statistics",
        formula=_Y_FORMULA.replace("mean", "running_mean").replace("variance", "running_var"),
        arguments=(
            _X,
            _GAMMA,
            _BETA,
            Argument(name="running_mean", role="parameter", doc="mean of each channel, of shape (C,)"),
            Argument(name="running_var", role="parameter", doc="variance of each channel, of shape (C,), 0 or more"),
            _EPS,
            _ACTIVATION,
            _OUT,
        ),
        returns=(_Y,),
        source=_BATCH_SOURCE,
        notes=(
            "The mean is subtracted first, then one multiply-add: folding it into the shift would lose the digits of "
            "channels whose mean is large beside their deviation.",
            f"{COPIES} {_NO_MEMORY}",
        ),
        oracle=_batch_infer,
        examples=_infer_examples,
        ulp=4.0,
        scale=_batch_infer_scale,
        bytes="reads x once, writes y once",
        operations="3 an element and those of the activation",
    ),
    Function(
        name="batch_norm_backward",
        family="normalization",
        title="Gradient of batch_norm_train, through the statistics",
        formula=f"{_BACKWARD_FORMULA}; means and sums by channel over the batch and all positions",
        arguments=(
            _DY,
            _SAVED_X,
            _GAMMA,
            *_statistics("(C,)", "parameter"),
            Argument(name="beta", role="parameter", doc="the beta of the forward pass, needed with an activation"),
            Argument(name="activation", doc="the activation of the forward pass"),
            _OUT_DX,
        ),
        returns=(_DX, _DGAMMA, _DBETA),
        source=_BATCH_SOURCE,
        notes=(
            _LOST,
            "With an activation dy is the gradient by its result, and its input is computed again from x, so that "
            "nothing but x and the statistics need be kept.",
            f"{COPIES} {_NO_MEMORY} With an activation, float16 and bfloat16 take a float32 array of x's shape, and so "
            "does an out that is x.",
        ),
        oracle=_batch_backward,
        examples=_batch_backward_examples,
        ulp=(8.0, 8.0, 8.0),
        scale=_batch_backward_scale,
        gradient_of="batch_norm_train",
        bytes=_READ_BOTH.format("channel"),
        operations=f"{_BACKWARD_OPERATIONS}; with an activation those of its forward and backward pass too",
    ),
    Function(
        name="layer_norm",
        family="normalization",
        title="Layer normalisation",
        formula=f"{_Y_FORMULA}, mean and variance over the last axes",
        arguments=(
            _ROW_X,
            Argument(name="gamma", role="parameter", doc="scale of each element, of shape x.shape[axis:]; None for 1"),
            Argument(name="beta", role="parameter", doc="shift of each element, of shape x.shape[axis:]; None for 0"),
            _AXIS,
            _EPS,
            _OUT,
        ),
        returns=(_Y, *_statistics("x.shape[:axis]")),
        source=_LAYER_SOURCE,
        notes=(STATISTICS, f"{COPIES} {_NO_MEMORY}"),
        oracle=_layer,
        examples=_layer_examples,
        ulp=(4.0, 2.0, 4.0),
        scale=_layer_scale,
        gradients=_layer_gradients,
        bytes=_READ_ONCE.format("row"),
        operations=_FORWARD_OPERATIONS,
    ),
    Function(
        name="layer_norm_backward",
        family="normalization",
        title="Gradient of layer_norm",
        formula=f"{_BACKWARD_FORMULA}; means over the last axes, sums over the others",
        arguments=(
            _DY,
            _SAVED_X,
            Argument(name="gamma", role="parameter", doc="the gamma of the forward pass, or None"),
            *_statistics("x.shape[:axis]", "parameter"),
            _AXIS,
            _OUT_DX,
        ),
        returns=(_DX, _DGAMMA, _DBETA),
        source=_LAYER_SOURCE,
        notes=(
            _LOST,
            f"{COPIES} Sums by element of a row take 16 bytes an element, in up to 16 copies while a row has fewer than "
            "16384 elements: samples are cut into that many blocks, whatever the number of threads.",
        ),
        oracle=_layer_backward,
        examples=_layer_backward_examples,
        ulp=(8.0, 8.0, 8.0),
        scale=_layer_backward_scale,
        gradient_of="layer_norm",
        bytes=_READ_BOTH.format("row"),
        operations=_BACKWARD_OPERATIONS,
    ),
    Function(
        name="group_norm",
        family="normalization",
        title="Group normalisation",
        formula=f"{_Y_FORMULA}, mean and variance by sample over the channels of a group and all positions",
        arguments=(
            _GROUP_X,
            Argument(name="groups", doc="number of groups that the channels are cut into; it divides them"),
            _GAMMA,
            _BETA,
            _EPS,
            _OUT,
        ),
        returns=(_Y, *_statistics("(N, groups)")),
        source=_GROUP_SOURCE,
        notes=(STATISTICS, f"{COPIES} {_NO_MEMORY}"),
        oracle=_group,
        examples=_group_examples,
        ulp=(4.0, 2.0, 4.0),
        scale=_group_scale,
        gradients=_group_gradients,
        bytes=_READ_ONCE.format("group"),
        operations=_FORWARD_OPERATIONS,
    ),
    Function(
        name="group_norm_backward",
        family="normalization",
        title="Gradient of group_norm",
        formula=f"{_BACKWARD_FORMULA}; means by sample and group, sums by channel",
        arguments=(
            _DY,
            _SAVED_X,
            Argument(name="groups", doc="the number of groups of the forward pass"),
            Argument(name="gamma", role="parameter", doc="the gamma of the forward pass, or None"),
            *_statistics("(N, groups)", "parameter"),
            _OUT_DX,
        ),
        returns=(_DX, _DGAMMA, _DBETA),
        source=_GROUP_SOURCE,
        notes=(_LOST, f"{COPIES} 16 bytes a sample and channel beyond the results."),
        oracle=_group_backward,
        examples=_group_backward_examples,
        ulp=(8.0, 8.0, 8.0),
        scale=_group_backward_scale,
        gradient_of="group_norm",
        bytes=_READ_BOTH.format("group"),
        operations=_BACKWARD_OPERATIONS,
    ),
    Function(
        name="instance_norm",
        family="normalization",
        title="Instance normalisation: every channel of every sample by itself",
        formula=f"{_Y_FORMULA}, mean and variance by sample and channel over all positions",
        arguments=(
            Argument(name="x", role="array", doc="array of shape (N, C, *spatial), of 2 positions or more"),
            _GAMMA,
            _BETA,
            _EPS,
            _OUT,
        ),
        returns=(_Y, *_statistics("(N, C)")),
        source=_INSTANCE_SOURCE,
        notes=(STATISTICS, f"{COPIES} {_NO_MEMORY}"),
        oracle=_instance,
        examples=_instance_examples,
        ulp=(4.0, 2.0, 4.0),
        scale=_instance_scale,
        gradients=_instance_gradients,
        bytes=_READ_ONCE.format("channel of a sample"),
        operations=_FORWARD_OPERATIONS,
    ),
    Function(
        name="instance_norm_backward",
        family="normalization",
        title="Gradient of instance_norm",
        formula=f"{_BACKWARD_FORMULA}; means by sample and channel, sums by channel",
        arguments=(
            _DY,
            _SAVED_X,
            Argument(name="gamma", role="parameter", doc="the gamma of the forward pass, or None"),
            *_statistics("(N, C)", "parameter"),
            _OUT_DX,
        ),
        returns=(_DX, _DGAMMA, _DBETA),
        source=_INSTANCE_SOURCE,
        notes=(_LOST, f"{COPIES} 16 bytes a sample and channel beyond the results."),
        oracle=_instance_backward,
        examples=_instance_backward_examples,
        ulp=(8.0, 8.0, 8.0),
        scale=_instance_backward_scale,
        gradient_of="instance_norm",
        bytes=_READ_BOTH.format("channel of a sample"),
        operations=_BACKWARD_OPERATIONS,
    ),
    Function(
        name="rms_norm",
        family="normalization",
        title="Root-mean-square normalisation: layer_norm without the mean",
        formula="y = x / sqrt(mean(x^2) + eps) * gamma, the mean over the last axes",
        arguments=(
            _ROW_X,
            Argument(name="gamma", role="parameter", doc="scale of each element, of shape x.shape[axis:]; None for 1"),
            _AXIS,
            Argument(name="eps", doc="number added to the mean of the squares, above 0; None for the eps of x's dtype"),
            _OUT,
        ),
        returns=(_Y, _statistic("inv_rms", "1 / sqrt(mean(x^2) + eps)", "x.shape[:axis]")),
        source=_RMS_SOURCE,
        notes=("The squares are added up in double.", f"{COPIES} {_NO_MEMORY}"),
        oracle=_rms,
        examples=_rms_examples,
        ulp=(4.0, 2.0),
        gradients=_rms_gradients,
        bytes=_READ_ONCE.format("row"),
        operations="about 5 an element, of which 2 in double",
    ),
    Function(
        name="rms_norm_backward",
        family="normalization",
        title="Gradient of rms_norm",
        formula="xhat = x inv_rms, g = dy gamma: dx = inv_rms (g - xhat mean(g xhat)), dgamma = sum(dy xhat)",
        arguments=(
            _DY,
            _SAVED_X,
            Argument(name="gamma", role="parameter", doc="the gamma of the forward pass, or None"),
            _statistic("inv_rms", "as rms_norm returned it", "x.shape[:axis]", "parameter"),
            _AXIS,
            _OUT_DX,
        ),
        returns=(_DX, _DGAMMA),
        source=_RMS_SOURCE,
        notes=(f"{COPIES} Memory as in layer_norm_backward.",),
        oracle=_rms_backward,
        examples=_rms_backward_examples,
        ulp=(8.0, 8.0),
        scale=_rms_backward_scale,
        gradient_of="rms_norm",
        bytes=_READ_BOTH.format("row"),
        operations=_BACKWARD_OPERATIONS,
    ),
)
