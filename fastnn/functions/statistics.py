"""The public functions of the family `statistics`."""

from __future__ import annotations

import math
import operator
from sys import modules
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastnn.arguments import bare, parameter_dtype, plain, real_array, real_number
from fastnn.arrays import beside, namespace, on_device, together
from fastnn.dispatch import implementation
from fastnn.function import public
from fastnn.fusion import Activation, fused
from fastnn.table import FUNCTIONS
from fastnn.table.statistics import limits

__all__ = ["activation_statistics", "dead_units", "saturation", "update_ratio"]

Array = npt.NDArray[Any]


class ActivationStatistics(NamedTuple):
    """What `activation_statistics` returns."""

    mean: Any
    std: Any
    minimum: Any
    maximum: Any
    inactive: Any
    low: Any
    high: Any


@public(FUNCTIONS["dead_units"])
def dead_units(y: npt.ArrayLike, *, axis: int = 1) -> tuple[Array, Array]:
    title = "dead_units"
    y = bare(real_array(title, "y", y))
    try:
        number = operator.index(axis)
    except TypeError:
        raise TypeError(f"{title}: axis is {axis!r}; expected an integer") from None
    if not -y.ndim <= number < y.ndim:
        raise ValueError(f"{title}: axis is {number} and y has shape {y.shape}; expected one of its axes")
    number %= y.ndim
    channels = y.shape[number]
    count = math.prod(y.shape[:number] + y.shape[number + 1 :])
    if count == 0:
        raise ValueError(f"{title}: y has shape {y.shape}, no sample of any unit; expected one or more")
    counts = implementation("statistics", y).inactive(
        plain(y).reshape(math.prod(y.shape[:number]), channels, math.prod(y.shape[number + 1 :]))
    )
    return counts == count, (counts / count).astype(parameter_dtype(y.dtype))


@public(FUNCTIONS["saturation"])
def saturation(y: npt.ArrayLike, activation: Activation, *, margin: float = 0.01) -> tuple[Any, Any]:
    title = "saturation"
    if activation is None:
        raise TypeError(f"{title}: activation is None; expected the name of one, or a tuple of name and parameters")
    *_, low, high = _described(title, y, activation, margin)
    return low, high


@public(FUNCTIONS["activation_statistics"])
def activation_statistics(
    y: npt.ArrayLike, activation: Activation = None, *, margin: float = 0.01
) -> ActivationStatistics:
    return _described("activation_statistics", y, activation, margin)


@public(FUNCTIONS["update_ratio"])
def update_ratio(param: npt.ArrayLike, update: npt.ArrayLike) -> Any:
    title = "update_ratio"
    if "cupy" in modules:
        together(title, param=param, update=update)
    arrays = [bare(real_array(title, "param", param)), bare(real_array(title, "update", update))]
    if arrays[0].shape != arrays[1].shape:
        raise ValueError(f"{title}: update has shape {arrays[1].shape}; expected param's, {arrays[0].shape}")
    if arrays[0].size == 0:
        raise ValueError(f"{title}: param has shape {arrays[0].shape}; expected one element or more")
    kernels = implementation("optimizers", arrays[0])
    sums = [kernels.power_sum(plain(array), 2.0) for array in arrays]
    dtype = np.result_type(*(parameter_dtype(array.dtype) for array in arrays))
    if on_device(arrays[0]):
        return namespace(arrays[0]).sqrt(sums[1] / sums[0]).astype(dtype)
    norms = [np.sqrt(np.float64(total)) for total in sums]
    with np.errstate(all="ignore"):
        return dtype.type(norms[1] / norms[0])


def _described(title: str, y: Any, activation: Activation, margin: Any) -> ActivationStatistics:
    y = bare(real_array(title, "y", y))
    dtype = parameter_dtype(y.dtype)
    chosen = fused(title, activation, y.dtype)
    margin = real_number(title, "margin", margin, low=0.0)
    ends = (-math.inf, math.inf) if chosen is None else limits(*chosen)
    if title == "saturation" and not any(map(math.isfinite, ends)):
        raise ValueError(f"{title}: activation {activation!r} has no limits; expected one that has, such as 'tanh'")
    if y.size == 0:
        raise ValueError(f"{title}: y has shape {y.shape}; expected one element or more")
    bounds = [bound for limit in ends for bound in _bounds(limit, margin, dtype)]
    *numbers, inactive, low, high = implementation("statistics", y).describe(plain(y), bounds)
    if on_device(y):
        found = (*numbers, inactive / y.size, low / y.size, high / y.size)
        return ActivationStatistics(*(beside(y, value).astype(dtype) for value in found))
    with np.errstate(all="ignore"):
        results = [dtype.type(value) for value in (*numbers, inactive / y.size, low / y.size, high / y.size)]
    return ActivationStatistics(*results)


def _bounds(limit: float, margin: float, dtype: np.dtype[Any]) -> tuple[float, float]:
    """The first and the last number of `dtype` within a margin of a limit, so that comparing with them is exact."""
    if not math.isfinite(limit):
        return math.inf, -math.inf
    with np.errstate(over="ignore"):
        first, last = dtype.type(limit - margin), dtype.type(limit + margin)
    if float(first) < limit - margin:
        first = np.nextafter(first, dtype.type(math.inf))
    if float(last) > limit + margin:
        last = np.nextafter(last, dtype.type(-math.inf))
    return float(first), float(last)
