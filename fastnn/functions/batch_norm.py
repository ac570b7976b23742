"""Batch normalisation: the public functions."""

from __future__ import annotations

import math
from sys import modules
from typing import SupportsIndex

import numpy as np
import numpy.typing as npt

from fastnn.arguments import (
    check_out,
    check_updated,
    check_written,
    checked_word,
    parameter_dtype,
    plain,
    real_number,
    receiver,
    stored,
)
from fastnn.arrays import empty, may_share, on_device, together, zeros
from fastnn.dispatch import implementation
from fastnn.function import public
from fastnn.functions.normalization_arguments import (
    Array,
    affine_arrays,
    all_stored,
    channels_array,
    checked_eps,
    gradient_arrays,
    gradients_memory,
    parameter_array,
    statistics_memory,
)
from fastnn.fusion import Activation, fused, known
from fastnn.generator import GRID, threshold
from fastnn.kernels.cpu import normalization as native
from fastnn.table.batch_norm import ROWS

_ROW = {row.name: row for row in ROWS}


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
    mean: Array | None = None,
    inv_std: Array | None = None,
) -> tuple[Array, Array, Array]:
    title = "batch_norm_train"
    kernels = implementation("normalization", x)
    if kernels is native and type(dropout_p) is float and dropout_p == 0:
        then = known(activation, getattr(x, "dtype", None))
        if then is not None or activation is None:
            found = native._train(
                x, gamma, beta, running_mean, running_var, momentum, eps, then, None, out, mean, inv_std
            )
            if found is not None:
                return found  # type: ignore[no-any-return]
    if "cupy" in modules:
        averages = {"running_mean": running_mean, "running_var": running_var}
        together(title, x=x, gamma=gamma, beta=beta, **averages, out=out, mean=mean, inv_std=inv_std)
    x = channels_array(title, x)
    channels = x.shape[1]
    count = x.size // channels if channels else 0
    if count <= 1:
        raise ValueError(
            f"{title}: x has shape {x.shape}, that is {count} value{'s' * (count != 1)} per channel, of which there is "
            "no variance; expected 2 or more. Ways out: batch_norm_infer (a layer's eval mode), which takes the "
            "running statistics; group_norm or layer_norm, which need no batch; or dropping the last, smaller batch"
        )
    dtype = parameter_dtype(x.dtype)
    gamma, beta = affine_arrays(title, gamma, beta, (channels,), dtype, x)
    momentum, eps = real_number(title, "momentum", momentum, low=0.0, high=1.0), checked_eps(title, eps)
    then, dropout = fused(title, activation, x.dtype), _dropout(title, dropout_p, seed, offset)
    inputs = {"x": x, "gamma": gamma, "beta": beta}
    check_out(title, out, x.shape, x.dtype, inputs)
    running = _checked_running(title, running_mean, running_var, channels, {"x": x, "out": out})
    given = {"mean": mean, "inv_std": inv_std}
    others = {**inputs, "out": out, "running_mean": running_mean, "running_var": running_var}
    statistics = statistics_memory(title, given, (channels,), dtype, others, x)
    y, none_left = receiver(out, x.shape, x.dtype, x), _all_dropped(dropout)
    variance = empty(x, channels, np.float64)
    shape = (x.shape[0], channels, -1)
    kernels.batch_norm_train(
        plain(x).reshape(shape),
        y.reshape(shape),
        gamma,
        beta,
        *statistics,
        variance,
        eps,
        then,
        None if none_left else dropout,
    )
    if none_left:
        y[...] = 0
    if running is not None:
        _update(running[0], statistics[0], 1, momentum)
        _update(running[1], variance, count / (count - 1), momentum)
    mean, inv_std = all_stored(statistics, given)
    return stored(y, out), mean, inv_std


def _update(average: Array, batch: Array, factor: float, momentum: float) -> None:
    """The same for averages of any dtype and stride."""
    if on_device(average):
        if average.dtype.itemsize > 2 and average.flags.c_contiguous:
            implementation("normalization", average)._update(average, batch, factor, momentum)
            return
        average[...] = (1 - momentum) * average.astype(np.float64) + momentum * (factor * batch.astype(np.float64))
        return
    wide = average.astype(np.float64, order="C")
    native._update(wide, batch, factor, momentum)
    with np.errstate(all="ignore"):
        average[...] = wide


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
    kernels = implementation("normalization", x)
    if kernels is native:
        then = known(activation, getattr(x, "dtype", None))
        if then is not None or activation is None:
            y = native._infer(x, gamma, beta, running_mean, running_var, eps, then, out)
            if y is not None:
                return y  # type: ignore[no-any-return]
    if "cupy" in modules:
        together(title, x=x, gamma=gamma, beta=beta, running_mean=running_mean, running_var=running_var, out=out)
    x = channels_array(title, x)
    channels = x.shape[1]
    dtype = parameter_dtype(x.dtype)
    gamma, beta = affine_arrays(title, gamma, beta, (channels,), dtype, x)
    mean = parameter_array(title, "running_mean", running_mean, (channels,), dtype)
    variance = parameter_array(title, "running_var", running_var, (channels,), dtype)
    _check_variance(title, variance)
    eps = checked_eps(title, eps)
    then = fused(title, activation, x.dtype)
    check_out(title, out, x.shape, x.dtype, {"x": x, "gamma": gamma, "beta": beta, "running_mean": mean})
    y = receiver(out, x.shape, x.dtype, x)
    shape = (x.shape[0], channels, math.prod(x.shape[2:]))
    kernels.batch_norm_infer(
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
    dgamma: Array | None = None,
    dbeta: Array | None = None,
    accumulate: bool = False,
) -> tuple[Array, Array | None, Array | None]:
    title = "batch_norm_backward"
    kernels = implementation("normalization", x)
    if kernels is native and type(dropout_p) is float and dropout_p == 0:
        then = known(activation, getattr(x, "dtype", None))
        if then is not None or activation is None:
            found = native._backward(dy, x, gamma, beta, mean, inv_std, then, None, out, dgamma, dbeta, accumulate)
            if found is not None:
                return found  # type: ignore[no-any-return]
    if "cupy" in modules:
        statistics = {"mean": mean, "inv_std": inv_std}
        together(title, dy=dy, x=x, gamma=gamma, beta=beta, **statistics, out=out, dgamma=dgamma, dbeta=dbeta)
    dy, x = gradient_arrays(title, dy, channels_array(title, x))
    channels = x.shape[1]
    dtype = parameter_dtype(x.dtype)
    then, dropout = fused(title, activation, x.dtype), _dropout(title, dropout_p, seed, offset)
    if then is not None and gamma is not None and beta is None:
        raise ValueError(
            f"{title}: beta is None and activation is {then.name!r}, whose input is computed again from beta; "
            "expected the beta of the forward pass"
        )
    wanted = gamma is not None
    gamma, beta = affine_arrays(title, gamma, beta, (channels,), dtype, x)
    mean = parameter_array(title, "mean", mean, (channels,), dtype)
    inv_std = parameter_array(title, "inv_std", inv_std, (channels,), dtype)
    inputs = {"dy": dy, "x": x, "gamma": gamma, "beta": beta, "mean": mean, "inv_std": inv_std}
    check_out(title, out, x.shape, x.dtype, inputs)
    given = {"dgamma": dgamma, "dbeta": dbeta}
    sums = gradients_memory(title, given, wanted, accumulate, (channels,), dtype, {**inputs, "out": out}, x)
    dx = receiver(out, x.shape, x.dtype, x)
    if _all_dropped(dropout):
        dy, then, dropout = zeros(x, x.shape, x.dtype), None, None
    apart = (then is not None or dropout is not None) and (x.dtype != dtype or may_share(dx, x))
    dz = empty(x, x.shape, dtype) if apart else dx
    shape = (x.shape[0], channels, math.prod(x.shape[2:]))
    flat = (array.reshape(shape) for array in (plain(dy), plain(x), dx, dz))
    arrays = (*flat, gamma, beta, mean, inv_std, *(sums or (None, None)))
    kernels.batch_norm_backward(*arrays, accumulate, then, dropout)
    if sums is None:
        return stored(dx, out), None, None
    dgamma, dbeta = all_stored(sums, given)
    return stored(dx, out), dgamma, dbeta


# ---- checks ----


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
    if not on_device(variance) and (variance < 0).any():  # a device is not waited for
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
    check_written(title, given, others)
    assert mean is not None and variance is not None
    _check_variance(title, variance)
    return mean, variance
