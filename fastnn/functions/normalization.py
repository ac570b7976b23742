"""The public functions of the family `normalization`."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.arguments import (
    check_out,
    common_array,
    float_dtype,
    parameter_dtype,
    plain,
    real_array,
    receiver,
    same_shapes,
    stored,
)
from fastnn.dispatch import implementation
from fastnn.function import public
from fastnn.fusion import Activation, Fused, fused
from fastnn.table.normalization import ROWS

__all__ = [row.name for row in ROWS]

Array = npt.NDArray[Any]
_ROW = {row.name: row for row in ROWS}


# ---- batch norm ----


@public(_ROW["batch_norm_train"])
def batch_norm_train(
    x: npt.ArrayLike,
    gamma: npt.ArrayLike | None,
    beta: npt.ArrayLike | None,
    running_mean: Array | None,
    running_var: Array | None,
    momentum: float = 0.1,
    eps: float = 1e-5,
    activation: Activation = None,
    *,
    out: Array | None = None,
) -> tuple[Array, Array, Array]:
    title = "batch_norm_train"
    x = _channels_array(title, x)
    channels = x.shape[1]
    count = x.size // channels if channels else 0
    if count <= 1:
        raise ValueError(
            f"{title}: x has shape {x.shape}, that is {count} value{'s' * (count != 1)} per channel, of which there is "
            "no variance; expected 2 or more. Ways out: batch_norm_infer (a layer's eval mode), which takes the running "
            "statistics; group_norm or layer_norm, which need no batch; or dropping the last, smaller batch"
        )
    dtype = parameter_dtype(x.dtype)
    gamma, beta = _affine(title, gamma, beta, (channels,), dtype)
    momentum, eps = _momentum(title, momentum), _eps(title, eps)
    then = fused(title, activation, x.dtype)
    inputs = {"x": x, "gamma": gamma, "beta": beta}
    check_out(title, out, x.shape, x.dtype, inputs)
    running = _checked_running(title, running_mean, running_var, channels, {**inputs, "out": out})
    y = receiver(out, x.shape, x.dtype)
    mean, inv_std, variance = np.empty(channels, dtype), np.empty(channels, dtype), np.empty(channels)
    shape = (x.shape[0], channels, -1)
    implementation("normalization").batch_norm_train(
        plain(x).reshape(shape), y.reshape(shape), gamma, beta, mean, inv_std, variance, eps, then
    )
    if running is not None:
        _update_running(running, mean, variance, count, momentum)
    return stored(y, out), mean, inv_std


def _update_running(running: tuple[Array, Array], mean: Array, variance: Array, count: int, momentum: float) -> None:
    """The convention of running averages, here and nowhere else: see CONVENTION in the table."""
    unbiased = variance * (count / (count - 1))
    with np.errstate(all="ignore"):
        for average, batch in zip(running, (mean, unbiased), strict=True):
            average[...] = momentum * batch.astype(np.float64) + (1 - momentum) * average.astype(np.float64)


@public(_ROW["batch_norm_infer"])
def batch_norm_infer(
    x: npt.ArrayLike,
    gamma: npt.ArrayLike | None,
    beta: npt.ArrayLike | None,
    running_mean: npt.ArrayLike,
    running_var: npt.ArrayLike,
    eps: float = 1e-5,
    activation: Activation = None,
    out: Array | None = None,
) -> Array:
    title = "batch_norm_infer"
    x = _channels_array(title, x)
    channels = x.shape[1]
    dtype = parameter_dtype(x.dtype)
    gamma, beta = _affine(title, gamma, beta, (channels,), dtype)
    mean = _parameter(title, "running_mean", running_mean, (channels,), dtype)
    variance = _parameter(title, "running_var", running_var, (channels,), dtype)
    _check_variance(title, variance)
    eps = _eps(title, eps)
    then = fused(title, activation, x.dtype)
    check_out(title, out, x.shape, x.dtype, {"x": x, "gamma": gamma, "beta": beta, "running_mean": mean})
    y = receiver(out, x.shape, x.dtype)
    shape = (x.shape[0], channels, math.prod(x.shape[2:]))
    implementation("normalization").batch_norm_infer(
        plain(x).reshape(shape), y.reshape(shape), gamma, beta, mean, variance.astype(np.float64), eps, then
    )
    return stored(y, out)


@public(_ROW["batch_norm_backward"])
def batch_norm_backward(
    dy: npt.ArrayLike,
    x: npt.ArrayLike,
    gamma: npt.ArrayLike | None,
    mean: npt.ArrayLike,
    inv_std: npt.ArrayLike,
    *,
    beta: npt.ArrayLike | None = None,
    activation: Activation = None,
    out: Array | None = None,
) -> tuple[Array, Array | None, Array | None]:
    title = "batch_norm_backward"
    dy, x = _gradient_arrays(title, dy, _channels_array(title, x))
    channels = x.shape[1]
    dtype = parameter_dtype(x.dtype)
    then = fused(title, activation, x.dtype)
    if then is not None and gamma is not None and beta is None:
        raise ValueError(
            f"{title}: beta is None and activation is {then.name!r}, whose input is computed again from beta; "
            "expected the beta of the forward pass"
        )
    affine = gamma is not None
    gamma, beta = _affine(title, gamma, beta, (channels,), dtype)
    mean = _parameter(title, "mean", mean, (channels,), dtype)
    inv_std = _parameter(title, "inv_std", inv_std, (channels,), dtype)
    inputs = {"dy": dy, "x": x, "gamma": gamma, "beta": beta, "mean": mean, "inv_std": inv_std}
    check_out(title, out, x.shape, x.dtype, inputs)
    dx = receiver(out, x.shape, x.dtype)
    dgamma, dbeta = np.empty(channels, dtype), np.empty(channels, dtype)
    apart = then is not None and (x.dtype != dtype or np.may_share_memory(dx, x))
    dz = np.empty(x.shape, dtype) if apart else dx
    shape = (x.shape[0], channels, math.prod(x.shape[2:]))
    flat = (array.reshape(shape) for array in (plain(dy), plain(x), dx, dz))
    implementation("normalization").batch_norm_backward(*flat, gamma, beta, mean, inv_std, dgamma, dbeta, then)
    return (stored(dx, out), dgamma, dbeta) if affine else (stored(dx, out), None, None)


# ---- norms of rows ----


@public(_ROW["layer_norm"])
def layer_norm(
    x: npt.ArrayLike,
    gamma: npt.ArrayLike | None = None,
    beta: npt.ArrayLike | None = None,
    *,
    axis: int = -1,
    eps: float = 1e-5,
    out: Array | None = None,
) -> tuple[Array, Array, Array]:
    title = "layer_norm"
    x, first = _row_array(title, x, axis)
    y, mean, inv_std = _rows(title, x, _last_axes(x, first), x.shape[first:], gamma, beta, _eps(title, eps), True, out)
    return y, mean.reshape(x.shape[:first]), inv_std.reshape(x.shape[:first])


@public(_ROW["layer_norm_backward"])
def layer_norm_backward(
    dy: npt.ArrayLike,
    x: npt.ArrayLike,
    gamma: npt.ArrayLike | None,
    mean: npt.ArrayLike,
    inv_std: npt.ArrayLike,
    *,
    axis: int = -1,
    out: Array | None = None,
) -> tuple[Array, Array | None, Array | None]:
    title = "layer_norm_backward"
    x, first = _row_array(title, x, axis)
    statistics = {"mean": mean, "inv_std": inv_std}
    return _rows_backward(
        title, dy, x, _last_axes(x, first), x.shape[first:], gamma, statistics, x.shape[:first], True, out
    )


@public(_ROW["group_norm"])
def group_norm(
    x: npt.ArrayLike,
    groups: int,
    gamma: npt.ArrayLike | None = None,
    beta: npt.ArrayLike | None = None,
    eps: float = 1e-5,
    *,
    out: Array | None = None,
) -> tuple[Array, Array, Array]:
    title = "group_norm"
    x = _channels_array(title, x)
    return _rows(title, x, _groups(title, x, groups), x.shape[1:2], gamma, beta, _eps(title, eps), True, out)


@public(_ROW["group_norm_backward"])
def group_norm_backward(
    dy: npt.ArrayLike,
    x: npt.ArrayLike,
    groups: int,
    gamma: npt.ArrayLike | None,
    mean: npt.ArrayLike,
    inv_std: npt.ArrayLike,
    *,
    out: Array | None = None,
) -> tuple[Array, Array | None, Array | None]:
    title = "group_norm_backward"
    x = _channels_array(title, x)
    shape = _groups(title, x, groups)
    statistics = {"mean": mean, "inv_std": inv_std}
    return _rows_backward(title, dy, x, shape, x.shape[1:2], gamma, statistics, shape[:2], True, out)


@public(_ROW["instance_norm"])
def instance_norm(
    x: npt.ArrayLike,
    gamma: npt.ArrayLike | None = None,
    beta: npt.ArrayLike | None = None,
    eps: float = 1e-5,
    *,
    out: Array | None = None,
) -> tuple[Array, Array, Array]:
    title = "instance_norm"
    x = _instance_array(title, x)
    return _rows(title, x, _instances(x), x.shape[1:2], gamma, beta, _eps(title, eps), True, out)


@public(_ROW["instance_norm_backward"])
def instance_norm_backward(
    dy: npt.ArrayLike,
    x: npt.ArrayLike,
    gamma: npt.ArrayLike | None,
    mean: npt.ArrayLike,
    inv_std: npt.ArrayLike,
    *,
    out: Array | None = None,
) -> tuple[Array, Array | None, Array | None]:
    title = "instance_norm_backward"
    x = _instance_array(title, x)
    statistics = {"mean": mean, "inv_std": inv_std}
    return _rows_backward(title, dy, x, _instances(x), x.shape[1:2], gamma, statistics, x.shape[:2], True, out)


@public(_ROW["rms_norm"])
def rms_norm(
    x: npt.ArrayLike,
    gamma: npt.ArrayLike | None = None,
    *,
    axis: int = -1,
    eps: float | None = None,
    out: Array | None = None,
) -> tuple[Array, Array]:
    title = "rms_norm"
    x, first = _row_array(title, x, axis)
    eps = _machine_eps(x.dtype) if eps is None else _eps(title, eps)
    y, _, inv_rms = _rows(title, x, _last_axes(x, first), x.shape[first:], gamma, None, eps, False, out)
    return y, inv_rms.reshape(x.shape[:first])


@public(_ROW["rms_norm_backward"])
def rms_norm_backward(
    dy: npt.ArrayLike,
    x: npt.ArrayLike,
    gamma: npt.ArrayLike | None,
    inv_rms: npt.ArrayLike,
    *,
    axis: int = -1,
    out: Array | None = None,
) -> tuple[Array, Array | None]:
    title = "rms_norm_backward"
    x, first = _row_array(title, x, axis)
    statistics = {"inv_rms": inv_rms}
    dx, dgamma, _ = _rows_backward(
        title, dy, x, _last_axes(x, first), x.shape[first:], gamma, statistics, x.shape[:first], False, out
    )
    return dx, dgamma


_Shape = tuple[int, ...]


def _rows(
    title: str,
    x: Array,
    shape: _Shape,
    parameter_shape: _Shape,
    gamma: npt.ArrayLike | None,
    beta: npt.ArrayLike | None,
    eps: float,
    centred: bool,
    out: Array | None,
) -> tuple[Array, Array, Array]:
    """y, mean and inv_std of x seen in `shape`, which is samples, groups, channels of a group, and the rest."""
    dtype = parameter_dtype(x.dtype)
    gamma, beta = _affine(title, gamma, beta, parameter_shape, dtype)
    check_out(title, out, x.shape, x.dtype, {"x": x, "gamma": gamma, "beta": beta})
    y = receiver(out, x.shape, x.dtype)
    mean, inv_std = np.empty(shape[:2], dtype), np.empty(shape[:2], dtype)
    implementation("normalization").row_norm(
        plain(x).reshape(shape),
        y.reshape(shape),
        gamma.reshape(-1),
        beta.reshape(-1),
        mean if centred else None,
        inv_std,
        eps,
    )
    return stored(y, out), mean, inv_std


def _rows_backward(
    title: str,
    dy: npt.ArrayLike,
    x: Array,
    shape: _Shape,
    parameter_shape: _Shape,
    gamma: npt.ArrayLike | None,
    statistics: dict[str, npt.ArrayLike],
    statistics_shape: _Shape,
    centred: bool,
    out: Array | None,
) -> tuple[Array, Array | None, Array | None]:
    dy, x = _gradient_arrays(title, dy, x)
    dtype = parameter_dtype(x.dtype)
    weight, _ = _affine(title, gamma, None, parameter_shape, dtype)
    known = {name: _parameter(title, name, value, statistics_shape, dtype) for name, value in statistics.items()}
    check_out(title, out, x.shape, x.dtype, {"dy": dy, "x": x, "gamma": weight, **known})
    dx = receiver(out, x.shape, x.dtype)
    wanted = gamma is not None
    dgamma = np.empty(parameter_shape, dtype) if wanted else None
    dbeta = np.empty(parameter_shape, dtype) if wanted and centred else None
    implementation("normalization").row_norm_backward(
        *(array.reshape(shape) for array in (plain(dy), plain(x), dx)),
        weight.reshape(-1),
        known["mean"].reshape(-1) if centred else None,
        known["inv_std" if centred else "inv_rms"].reshape(-1),
        None if dgamma is None else dgamma.reshape(-1),
        None if dbeta is None else dbeta.reshape(-1),
    )
    return stored(dx, out), dgamma, dbeta


# ---- checks ----


def _channels_array(title: str, x: npt.ArrayLike, least: int = 2) -> Array:
    array = real_array(title, "x", x)
    if array.ndim < least:
        wanted = "(N, C) or (N, C, *spatial)" if least == 2 else "(N, C, *spatial)"
        raise ValueError(f"{title}: x has shape {array.shape}; expected {wanted}")
    return array


def _instance_array(title: str, x: npt.ArrayLike) -> Array:
    array = _channels_array(title, x, 3)
    positions = math.prod(array.shape[2:])
    if positions < 2:
        raise ValueError(
            f"{title}: x has shape {array.shape}, that is {positions} value{'s' * (positions != 1)} per channel of a "
            "sample, of which there is no variance; expected 2 or more"
        )
    return array


def _instances(x: Array) -> _Shape:
    return (x.shape[0], x.shape[1], 1, math.prod(x.shape[2:]))


def _groups(title: str, x: Array, groups: int) -> _Shape:
    count = _integer(title, "groups", groups)
    channels, positions = x.shape[1], math.prod(x.shape[2:])
    if count < 1 or channels % count != 0:
        raise ValueError(
            f"{title}: groups is {count} and x has {channels} channels; expected a number that divides them"
        )
    if channels * positions == 0:
        raise ValueError(
            f"{title}: x has shape {x.shape}: there is nothing to normalise; expected no 0 after the first"
        )
    return (x.shape[0], count, channels // count, positions)


def _row_array(title: str, x: npt.ArrayLike, axis: int) -> tuple[Array, int]:
    """The array, and the first of the axes that are normalised."""
    array = real_array(title, "x", x)
    first = _integer(title, "axis", axis)
    if array.ndim == 0:
        raise ValueError(f"{title}: x is a single number; expected an array of one axis or more")
    if not -array.ndim <= first < array.ndim:
        raise ValueError(
            f"{title}: axis is {first} and x has {array.ndim} axes; expected {-array.ndim} to {array.ndim - 1}"
        )
    first %= array.ndim
    if 0 in array.shape[first:]:
        raise ValueError(f"{title}: x has shape {array.shape}, nothing along axis {first} or after; expected 1 or more")
    return array, first


def _last_axes(x: Array, first: int) -> _Shape:
    return (math.prod(x.shape[:first]), 1, math.prod(x.shape[first:]), 1)


def _gradient_arrays(title: str, dy: npt.ArrayLike, x: Array) -> tuple[Array, Array]:
    dy, x = common_array(title, ("dy", "x"), (dy, x))
    if dy.shape != x.shape:
        raise ValueError(f"{title}: dy has shape {dy.shape} and x has shape {x.shape}; expected the same shape")
    return dy, x


def _affine(
    title: str, gamma: npt.ArrayLike | None, beta: npt.ArrayLike | None, shape: _Shape, dtype: np.dtype[Any]
) -> tuple[Array, Array]:
    """gamma and beta, 1 and 0 where there is none."""
    return (
        np.ones(shape, dtype) if gamma is None else _parameter(title, "gamma", gamma, shape, dtype),
        np.zeros(shape, dtype) if beta is None else _parameter(title, "beta", beta, shape, dtype),
    )


def _parameter(title: str, name: str, value: npt.ArrayLike, shape: _Shape, dtype: np.dtype[Any]) -> Array:
    array = real_array(title, name, value)
    if array.shape != shape:
        raise ValueError(f"{title}: {name} has shape {array.shape}; expected {shape}")
    with np.errstate(all="ignore"):
        return plain(array.astype(dtype, copy=False))


def _check_variance(title: str, variance: Array) -> None:
    if (variance < 0).any():
        raise ValueError(f"{title}: running_var has {variance.min():g} in it; expected variances, 0 or more")


def _checked_running(
    title: str, mean: Array | None, variance: Array | None, channels: int, others: dict[str, Array | None]
) -> tuple[Array, Array] | None:
    """The running averages, if they can be updated in place."""
    if mean is None and variance is None:
        return None
    given = {"running_mean": mean, "running_var": variance}
    for name, array in given.items():
        other = "running_var" if name == "running_mean" else "running_mean"
        if array is None:
            raise ValueError(f"{title}: {name} is None and {other} is not; expected both, or None for both")
        if not isinstance(array, np.ndarray):
            raise TypeError(
                f"{title}: {name} is of type {type(array).__name__}; expected a numpy.ndarray, to be updated in place"
            )
        if not array.dtype.isnative or float_dtype(array.dtype) != array.dtype:
            raise TypeError(
                f"{title}: {name} has dtype {array.dtype}; expected float16, bfloat16, float32 or float64 in native "
                "byte order, to be updated in place"
            )
        if array.shape != (channels,):
            raise ValueError(f"{title}: {name} has shape {array.shape}; expected {(channels,)}")
        if not array.flags.writeable:
            raise ValueError(f"{title}: {name} is read-only; expected a writeable array, to be updated in place")
        if channels > 1 and array.strides == (0,):
            raise ValueError(f"{title}: the elements of {name} share memory; expected one place for each")
        for known, value in {**others, **given}.items():
            if known != name and value is not None and np.may_share_memory(array, value):
                raise ValueError(f"{title}: {name} overlaps {known} in memory; expected memory apart from it")
    assert mean is not None and variance is not None
    _check_variance(title, variance)
    return mean, variance


def _integer(title: str, name: str, value: Any) -> int:
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{title}: {name} is {value!r} of type {type(value).__name__}; expected an int") from None


def _number(title: str, name: str, value: Any, expected: str) -> float:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{title}: {name} is {value!r} of type {type(value).__name__}; expected {expected}")
    return float(value)


def _eps(title: str, eps: Any) -> float:
    number = _number(title, "eps", eps, "a number above 0")
    if not 0 < number < math.inf:
        raise ValueError(f"{title}: eps is {eps!r}; expected a finite number above 0")
    return number


def _momentum(title: str, momentum: Any) -> float:
    number = _number(title, "momentum", momentum, "a number from 0 to 1, the weight of the new batch")
    if not 0 <= number <= 1:
        raise ValueError(f"{title}: momentum is {momentum!r}; expected the weight of the new batch, from 0 to 1")
    return number


def _machine_eps(dtype: np.dtype[Any]) -> float:
    return 2.0**-7 if dtype.name == "bfloat16" else float(np.finfo(dtype).eps)
