"""The public functions of the family `normalization`."""

from __future__ import annotations

import math
import operator
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from fastnn.arguments import (
    check_out,
    check_updated,
    checked_axis,
    checked_word,
    common_array,
    overlap,
    parameter_dtype,
    plain,
    real_array,
    real_number,
    receiver,
    stored,
)
from fastnn.dispatch import implementation
from fastnn.function import public
from fastnn.fusion import Activation, fused
from fastnn.generator import GRID, threshold
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
    dropout_p: float = 0.0,
    seed: SupportsIndex | None = None,
    offset: SupportsIndex = 0,
    out: Array | None = None,
) -> tuple[Array, Array, Array]:
    title = "batch_norm_train"
    x = _channels_array(title, x)
    channels = x.shape[1]
    count = x.size // channels if channels else 0
    if count <= 1:
        raise ValueError(
            f"{title}: x has shape {x.shape}, that is {count} value{'s' * (count != 1)} per channel, of which there is "
            "no variance; expected 2 or more. Ways out: batch_norm_infer (a layer's eval mode), which takes the "
            "running statistics; group_norm or layer_norm, which need no batch; or dropping the last, smaller batch"
        )
    dtype = parameter_dtype(x.dtype)
    gamma, beta = _affine(title, gamma, beta, (channels,), dtype)
    momentum, eps = real_number(title, "momentum", momentum, low=0.0, high=1.0), _eps(title, eps)
    then, dropout = fused(title, activation, x.dtype), _dropout(title, dropout_p, seed, offset)
    inputs = {"x": x, "gamma": gamma, "beta": beta}
    check_out(title, out, x.shape, x.dtype, inputs)
    running = _checked_running(title, running_mean, running_var, channels, {"x": x, "out": out})
    y, none_left = receiver(out, x.shape, x.dtype), _all_dropped(dropout)
    mean, inv_std, batch = np.empty(channels, dtype), np.empty(channels, dtype), np.empty((2, channels))
    shape = (x.shape[0], channels, -1)
    implementation("normalization").batch_norm_train(
        plain(x).reshape(shape),
        y.reshape(shape),
        gamma,
        beta,
        mean,
        inv_std,
        batch[1],
        eps,
        then,
        None if none_left else dropout,
    )
    if none_left:
        y[...] = 0
    if running is not None:
        batch[0] = mean
        _update(running, batch, count, momentum)
    return stored(y, out), mean, inv_std


def _update(running: tuple[Array, Array], batch: Array, count: int, momentum: float) -> None:
    """The convention of running averages, here and nowhere else: see CONVENTION in the table.

    `batch` is the mean and the biased variance, float64, and is changed.
    """
    with np.errstate(all="ignore"):
        batch[1] *= count / (count - 1)
        batch *= momentum
        for average, new in zip(running, batch, strict=True):
            old = average if average.itemsize > 2 else average.astype(np.float32)
            average[...] = new + (1 - momentum) * old


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
    dropout_p: float = 0.0,
    seed: SupportsIndex | None = None,
    offset: SupportsIndex = 0,
    out: Array | None = None,
) -> tuple[Array, Array | None, Array | None]:
    title = "batch_norm_backward"
    dy, x = _gradient_arrays(title, dy, _channels_array(title, x))
    channels = x.shape[1]
    dtype = parameter_dtype(x.dtype)
    then, dropout = fused(title, activation, x.dtype), _dropout(title, dropout_p, seed, offset)
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
    if _all_dropped(dropout):
        dy, then, dropout = np.zeros_like(x), None, None
    apart = (then is not None or dropout is not None) and (x.dtype != dtype or np.may_share_memory(dx, x))
    dz = np.empty(x.shape, dtype) if apart else dx
    shape = (x.shape[0], channels, math.prod(x.shape[2:]))
    flat = (array.reshape(shape) for array in (plain(dy), plain(x), dx, dz))
    implementation("normalization").batch_norm_backward(*flat, gamma, beta, mean, inv_std, dgamma, dbeta, then, dropout)
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
    if isinstance(groups, (bool, np.bool_, np.ndarray)) or not isinstance(groups, SupportsIndex):
        raise TypeError(f"{title}: groups is {groups!r} of type {type(groups).__name__}; expected an int")
    count = operator.index(groups)
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
    first = checked_axis(title, axis, "x", array.ndim)
    if 0 in array.shape[first:]:
        raise ValueError(f"{title}: x has shape {array.shape}, nothing along axis {first} or after; expected 1 or more")
    return array, first


def _last_axes(x: Array, first: int) -> _Shape:
    return (math.prod(x.shape[:first]), 1, math.prod(x.shape[first:]), 1)


def _gradient_arrays(title: str, dy: npt.ArrayLike, x: Array) -> tuple[Array, Array]:
    if type(dy) is not np.ndarray or dy.dtype != x.dtype:
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
    if type(value) is np.ndarray and value.dtype == dtype and value.shape == shape and value.flags.carray:
        return value  # the short way
    array = real_array(title, name, value)
    if array.shape != shape:
        raise ValueError(f"{title}: {name} has shape {array.shape}; expected {shape}")
    with np.errstate(all="ignore"):
        return plain(array.astype(dtype, copy=False))


def _dropout(title: str, p: float, seed: object, offset: object) -> tuple[int, float, int, int] | None:
    """What kernels want to know of dropout: threshold, scale of what is kept, seed and offset; None for no dropout."""
    number = real_number(title, "dropout_p", p, low=0.0, high=1.0)
    if number == 0:
        return None
    if seed is None:
        raise TypeError(f"{title}: seed is missing; expected an int from 0 to 2^64 - 1 beside dropout_p={number:g}")
    words = checked_word(title, "seed", seed), checked_word(title, "offset", offset)
    bound = threshold(number)
    return None if bound == 0 else (bound, GRID / max(1, GRID - bound), *words)


def _all_dropped(dropout: tuple[int, float, int, int] | None) -> bool:
    """Nothing is drawn then, and kernels do not know of it."""
    return dropout is not None and dropout[0] == GRID


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
        check_updated(title, name, array, (channels,))
        for known, value in others.items():
            if value is not None and overlap(array, value):
                raise ValueError(f"{title}: {name} overlaps {known} in memory; expected memory apart from it")
    assert mean is not None and variance is not None
    if overlap(mean, variance):
        raise ValueError(f"{title}: running_mean overlaps running_var in memory; expected memory apart from it")
    _check_variance(title, variance)
    return mean, variance


def _eps(title: str, eps: float) -> float:
    return real_number(title, "eps", eps, above=0.0)


def _machine_eps(dtype: np.dtype[Any]) -> float:
    return 2.0**-7 if dtype.name == "bfloat16" else float(np.finfo(dtype).eps)
