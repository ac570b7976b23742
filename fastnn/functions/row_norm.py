"""Layer, group, instance and RMS normalisation: the public functions."""

from __future__ import annotations

import functools
import math
import operator
from sys import modules
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from fastnn.arguments import check_out, checked_axis, parameter_dtype, plain, real_array, receiver, stored
from fastnn.arrays import together
from fastnn.dispatch import implementation
from fastnn.function import public
from fastnn.functions.normalization_arguments import (
    Array,
    Shape,
    affine_arrays,
    all_stored,
    channels_array,
    checked_eps,
    gradient_arrays,
    gradients_memory,
    parameter_array,
    statistics_memory,
)
from fastnn.kernels.cpu import normalization as native
from fastnn.table.row_norm import ROWS

_ROW = {row.name: row for row in ROWS}

# Shapes: of x as kernels see it (samples, groups, channels of one, the rest), of gamma and beta, of the statistics.
View = tuple[Shape, Shape, Shape]


@public(_ROW["layer_norm"])
def layer_norm(
    x: npt.ArrayLike,
    gamma: npt.ArrayLike | None = None,
    beta: npt.ArrayLike | None = None,
    *,
    axis: int = -1,
    eps: float = 1e-5,
    out: Array | None = None,
    mean: Array | None = None,
    inv_std: Array | None = None,
) -> tuple[Array, Array, Array]:
    title = "layer_norm"
    if implementation("normalization", x) is native:
        found = native._rows(x, axis, None, gamma, beta, eps, True, out, mean, inv_std)
        if found is not None:
            return found  # type: ignore[no-any-return]
    x, first = _row_array(title, x, axis)
    given = {"mean": mean, "inv_std": inv_std}
    y, mean, inv_std = _rows(title, x, _last_axes(x, first), gamma, beta, checked_eps(title, eps), out, given)
    return y, mean, inv_std


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
    dgamma: Array | None = None,
    dbeta: Array | None = None,
    accumulate: bool = False,
) -> tuple[Array, Array | None, Array | None]:
    title = "layer_norm_backward"
    if implementation("normalization", x) is native:
        found = native._rows_backward(dy, x, axis, None, gamma, mean, inv_std, True, out, dgamma, dbeta, accumulate)
        if found is not None:
            return found  # type: ignore[no-any-return]
    x, first = _row_array(title, x, axis)
    statistics, given = {"mean": mean, "inv_std": inv_std}, {"dgamma": dgamma, "dbeta": dbeta}
    view = _last_axes(x, first)
    dx, dgamma, dbeta = _rows_backward(title, dy, x, view, gamma, statistics, out, given, accumulate)
    return dx, dgamma, dbeta


@public(_ROW["group_norm"])
def group_norm(
    x: npt.ArrayLike,
    groups: int,
    gamma: npt.ArrayLike | None = None,
    beta: npt.ArrayLike | None = None,
    eps: float = 1e-5,
    *,
    out: Array | None = None,
    mean: Array | None = None,
    inv_std: Array | None = None,
) -> tuple[Array, Array, Array]:
    title = "group_norm"
    if implementation("normalization", x) is native:
        found = native._rows(x, None, groups, gamma, beta, eps, True, out, mean, inv_std)
        if found is not None:
            return found  # type: ignore[no-any-return]
    x = channels_array(title, x)
    given = {"mean": mean, "inv_std": inv_std}
    y, mean, inv_std = _rows(title, x, _groups(title, x, groups), gamma, beta, checked_eps(title, eps), out, given)
    return y, mean, inv_std


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
    dgamma: Array | None = None,
    dbeta: Array | None = None,
    accumulate: bool = False,
) -> tuple[Array, Array | None, Array | None]:
    title = "group_norm_backward"
    if implementation("normalization", x) is native:
        found = native._rows_backward(dy, x, None, groups, gamma, mean, inv_std, True, out, dgamma, dbeta, accumulate)
        if found is not None:
            return found  # type: ignore[no-any-return]
    x = channels_array(title, x)
    view = _groups(title, x, groups)
    statistics, given = {"mean": mean, "inv_std": inv_std}, {"dgamma": dgamma, "dbeta": dbeta}
    dx, dgamma, dbeta = _rows_backward(title, dy, x, view, gamma, statistics, out, given, accumulate)
    return dx, dgamma, dbeta


@public(_ROW["instance_norm"])
def instance_norm(
    x: npt.ArrayLike,
    gamma: npt.ArrayLike | None = None,
    beta: npt.ArrayLike | None = None,
    eps: float = 1e-5,
    *,
    out: Array | None = None,
    mean: Array | None = None,
    inv_std: Array | None = None,
) -> tuple[Array, Array, Array]:
    title = "instance_norm"
    if implementation("normalization", x) is native:
        found = native._rows(x, None, native._each, gamma, beta, eps, True, out, mean, inv_std)
        if found is not None:
            return found  # type: ignore[no-any-return]
    x = _instance_array(title, x)
    given = {"mean": mean, "inv_std": inv_std}
    y, mean, inv_std = _rows(title, x, _instances(x), gamma, beta, checked_eps(title, eps), out, given)
    return y, mean, inv_std


@public(_ROW["instance_norm_backward"])
def instance_norm_backward(
    dy: npt.ArrayLike,
    x: npt.ArrayLike,
    gamma: npt.ArrayLike | None,
    mean: npt.ArrayLike,
    inv_std: npt.ArrayLike,
    *,
    out: Array | None = None,
    dgamma: Array | None = None,
    dbeta: Array | None = None,
    accumulate: bool = False,
) -> tuple[Array, Array | None, Array | None]:
    title = "instance_norm_backward"
    if implementation("normalization", x) is native:
        found = native._rows_backward(
            dy, x, None, native._each, gamma, mean, inv_std, True, out, dgamma, dbeta, accumulate
        )
        if found is not None:
            return found  # type: ignore[no-any-return]
    x = _instance_array(title, x)
    statistics, given = {"mean": mean, "inv_std": inv_std}, {"dgamma": dgamma, "dbeta": dbeta}
    dx, dgamma, dbeta = _rows_backward(title, dy, x, _instances(x), gamma, statistics, out, given, accumulate)
    return dx, dgamma, dbeta


@public(_ROW["rms_norm"])
def rms_norm(
    x: npt.ArrayLike,
    gamma: npt.ArrayLike | None = None,
    *,
    axis: int = -1,
    eps: float | None = None,
    out: Array | None = None,
    inv_rms: Array | None = None,
) -> tuple[Array, Array]:
    title = "rms_norm"
    if implementation("normalization", x) is native:
        number = _machine_eps(x.dtype) if eps is None and type(x) is np.ndarray else eps
        found = native._rows(x, axis, None, gamma, None, number, False, out, None, inv_rms)
        if found is not None:
            return found  # type: ignore[no-any-return]
    x, first = _row_array(title, x, axis)
    eps = _machine_eps(x.dtype) if eps is None else checked_eps(title, eps)
    y, inv_rms = _rows(title, x, _last_axes(x, first), gamma, None, eps, out, {"inv_rms": inv_rms})
    return y, inv_rms


@public(_ROW["rms_norm_backward"])
def rms_norm_backward(
    dy: npt.ArrayLike,
    x: npt.ArrayLike,
    gamma: npt.ArrayLike | None,
    inv_rms: npt.ArrayLike,
    *,
    axis: int = -1,
    out: Array | None = None,
    dgamma: Array | None = None,
    accumulate: bool = False,
) -> tuple[Array, Array | None]:
    title = "rms_norm_backward"
    if implementation("normalization", x) is native:
        found = native._rows_backward(dy, x, axis, None, gamma, None, inv_rms, False, out, dgamma, None, accumulate)
        if found is not None:
            return found  # type: ignore[no-any-return]
    x, first = _row_array(title, x, axis)
    statistics, given = {"inv_rms": inv_rms}, {"dgamma": dgamma}
    view = _last_axes(x, first)
    dx, dgamma = _rows_backward(title, dy, x, view, gamma, statistics, out, given, accumulate)
    return dx, dgamma


def _rows(
    title: str,
    x: Array,
    view: View,
    gamma: npt.ArrayLike | None,
    beta: npt.ArrayLike | None,
    eps: float,
    out: Array | None,
    given: dict[str, Array | None],
) -> tuple[Array, ...]:
    """y and the statistics, for which memory may be `given`."""
    if "cupy" in modules:
        together(title, x=x, gamma=gamma, beta=beta, out=out, **given)
    shape, parameter_shape, statistics_shape = view
    dtype = parameter_dtype(x.dtype)
    gamma, beta = affine_arrays(title, gamma, beta, parameter_shape, dtype, x)
    check_out(title, out, x.shape, x.dtype, {"x": x, "gamma": gamma, "beta": beta})
    others = {"x": x, "gamma": gamma, "beta": beta, "out": out}
    statistics = statistics_memory(title, given, statistics_shape, dtype, others, x)
    y = receiver(out, x.shape, x.dtype, x)
    implementation("normalization", x).row_norm(
        plain(x).reshape(shape),
        y.reshape(shape),
        gamma.reshape(-1),
        beta.reshape(-1),
        statistics[0].reshape(shape[:2]) if "mean" in given else None,
        statistics[-1].reshape(shape[:2]),
        eps,
    )
    return stored(y, out), *all_stored(statistics, given)


def _rows_backward(
    title: str,
    dy: npt.ArrayLike,
    x: Array,
    view: View,
    gamma: npt.ArrayLike | None,
    statistics: dict[str, npt.ArrayLike],
    out: Array | None,
    given: dict[str, Array | None],
    accumulate: bool,
) -> tuple[Any, ...]:
    """dx and the gradients of gamma and beta, for which memory may be `given`."""
    if "cupy" in modules:
        together(title, dy=dy, x=x, gamma=gamma, **statistics, out=out, **given)
    shape, parameter_shape, statistics_shape = view
    dy, x = gradient_arrays(title, dy, x)
    dtype = parameter_dtype(x.dtype)
    weight, _ = affine_arrays(title, gamma, None, parameter_shape, dtype, x)
    known = {name: parameter_array(title, name, value, statistics_shape, dtype) for name, value in statistics.items()}
    inputs = {"dy": dy, "x": x, "gamma": weight, **known}
    check_out(title, out, x.shape, x.dtype, inputs)
    wanted, others = gamma is not None, {**inputs, "out": out}
    sums = gradients_memory(title, given, wanted, accumulate, parameter_shape, dtype, others, x)
    dx = receiver(out, x.shape, x.dtype, x)
    implementation("normalization", x).row_norm_backward(
        *(array.reshape(shape) for array in (plain(dy), plain(x), dx)),
        weight.reshape(-1),
        known["mean"].reshape(-1) if "mean" in known else None,
        known["inv_std" if "mean" in known else "inv_rms"].reshape(-1),
        None if sums is None else sums[0].reshape(-1),
        None if sums is None or "dbeta" not in given else sums[1].reshape(-1),
        accumulate,
    )
    return stored(dx, out), *([None] * len(given) if sums is None else all_stored(sums, given))


# ---- checks ----


def _instance_array(title: str, x: npt.ArrayLike) -> Array:
    array = channels_array(title, x, 3)
    positions = math.prod(array.shape[2:])
    if positions < 2:
        raise ValueError(
            f"{title}: x has shape {array.shape}, that is {positions} value{'s' * (positions != 1)} per channel of a "
            "sample, of which there is no variance; expected 2 or more"
        )
    return array


def _instances(x: Array) -> View:
    return (x.shape[0], x.shape[1], 1, math.prod(x.shape[2:])), x.shape[1:2], x.shape[:2]


def _groups(title: str, x: Array, groups: int) -> View:
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
    return (x.shape[0], count, channels // count, positions), x.shape[1:2], (x.shape[0], count)


def _row_array(title: str, x: npt.ArrayLike, axis: int) -> tuple[Array, int]:
    """The array, and the first of the axes that are normalised."""
    array = real_array(title, "x", x)
    first = checked_axis(title, axis, "x", array.ndim)
    if 0 in array.shape[first:]:
        raise ValueError(f"{title}: x has shape {array.shape}, nothing along axis {first} or after; expected 1 or more")
    return array, first


def _last_axes(x: Array, first: int) -> View:
    outer, inner = x.shape[:first], x.shape[first:]
    return (math.prod(outer), 1, math.prod(inner), 1), inner, outer


@functools.cache
def _machine_eps(dtype: np.dtype[Any]) -> float:
    return 2.0**-7 if dtype.name == "bfloat16" else float(np.finfo(dtype).eps) if dtype.kind == "f" else 0.0
