"""Normalisation: batch norm by channel; layer, group, instance and RMS norm by row. Source: normalization.cu.

Statistics are summed up as on the CPU, four terms in the type that is computed in, then in double, in an order that the
shape alone decides; they stay on the device.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.fusion import Fused
from fastnn.kernels.cuda.channels import partial_sums, shares, tasks
from fastnn.kernels.cuda.compiler import (
    TYPES,
    Family,
    compute_dtype,
    cupy,
    launch,
    launch_elements,
    launch_rows,
    scalar,
)
from fastnn.kernels.cuda.fused import NONE, cxx, expressions, numbers

Array = Any
Dropout = tuple[int, float, int, int] | None  # threshold, scale of what is kept, seed, offset

_FUSING = ("batch_apply<{T}, {A}, ", "batch_gradient_sums<{T}, {A}, ", "batch_gradient<{T}, {A}, ")
FAMILY = Family(
    "normalization",
    "batch_statistics<{T}>",
    "batch_constants<{T}>",
    "batch_given<{T}>",
    "batch_gradient_constants<{T}>",
    "update_average<{T}, float>",
    "update_average<{T}, double>",
    *(kernel.replace("{A}", NONE) + "false>" for kernel in _FUSING),
    "row_norm<{T}>",
    "row_gradient<{T}>",
    "row_parameter_sums<{T}>",
    "row_parameter_gradients<{T}>",
)
FUSED = Family("fused_normalization", *expressions(*(kernel + "true>" for kernel in _FUSING)), separately=True)
_CONSTANTS = 7  # of each channel, as in batch_norm.cuh


def batch_norm_train(
    x: Array,
    y: Array,
    gamma: Array,
    beta: Array,
    mean: Array,
    inv_std: Array,
    variance: Array,
    eps: float,
    activation: Fused | None,
    dropout: Dropout,
) -> None:
    """y, mean, inv_std and the biased variance (float64) of x[outer, channels, inner], none of which may be 0."""
    constants = _statistics(x, gamma, beta, mean, inv_std, variance, eps)
    _apply(x, y, constants, activation, dropout)


def _update(average: Array, batch: Array, factor: float, momentum: float) -> None:
    """A running average, float32 or float64, and the numbers of a batch times a factor, of either dtype; contiguous."""
    kernel = FAMILY.kernel(f"update_average<{{T}}, {TYPES[batch.dtype.name]}>", average.dtype)
    numbers = (np.float64(factor), np.float64(momentum))
    launch_elements(kernel, average.size, 16, average, batch, average.size, *numbers)


def batch_norm_infer(
    x: Array,
    y: Array,
    gamma: Array,
    beta: Array,
    mean: Array,
    variance: Array,
    eps: float,
    activation: Fused | None,
) -> None:
    """y of x[outer, channels, inner] by given statistics; variance is float64."""
    if x.size == 0:
        return
    channels = x.shape[1]
    constants = _constants(x)
    kernel = FAMILY.kernel("batch_given<{T}>", x.dtype)
    launch_elements(kernel, channels, 16, gamma, beta, mean, variance, constants, channels, np.float64(eps))
    _apply(x, y, constants, activation, None)


def batch_norm_backward(
    dy: Array,
    x: Array,
    dx: Array,
    dz: Array,
    gamma: Array,
    beta: Array,
    mean: Array,
    inv_std: Array,
    dgamma: Array | None,
    dbeta: Array | None,
    accumulate: bool,
    activation: Fused | None,
    dropout: Dropout,
) -> None:
    """dx, and dgamma and dbeta where they are not None. dz is not needed: the activation's input is computed again."""
    if x.size == 0:
        _no_sums(dgamma, dbeta, accumulate)
        return
    outer, channels, inner = x.shape
    splits = shares(outer, channels, inner)
    constants = _constants(x)
    if activation is not None:
        constants = _statistics(x, gamma, beta, mean, inv_std, None, 0.0)
    partial = partial_sums(3, channels, inner, splits)
    fusion = _fusion(x, activation, dropout)
    shape = (outer, channels, inner, splits)
    kernel = _fusing("batch_gradient_sums<{T}, {A}, ", activation, dropout, x.dtype)
    launch(kernel, tasks(channels, inner, splits), dy, x, constants, mean, partial, *shape, *fusion)
    kernel = FAMILY.kernel("batch_gradient_constants<{T}>", x.dtype)
    sums = (dgamma, dbeta)
    launch_rows(
        kernel, channels, partial, gamma, inv_std, *sums, constants, *shape, int(accumulate), threads=_FEW_THREADS
    )
    splits = shares(outer, channels, inner, 4096)
    kernel = _fusing("batch_gradient<{T}, {A}, ", activation, dropout, x.dtype)
    shape = (outer, channels, inner, splits)
    launch(kernel, tasks(channels, inner, splits), dy, x, dx, constants, mean, *shape, *fusion)


def row_norm(x: Array, y: Array, gamma: Array, beta: Array, mean: Array | None, inv_std: Array, eps: float) -> None:
    """y, mean and inv_std of x[samples, groups, channels, inner]; mean None: RMS norm. gamma, beta: [columns]."""
    if x.size == 0:
        return
    samples, groups, channels, inner = x.shape
    shape = (samples * groups, groups, channels, inner)
    launch_rows(
        FAMILY.kernel("row_norm<{T}>", x.dtype),
        samples * groups,
        *(x, y, gamma, beta, mean, inv_std, *shape, int(mean is not None), np.float64(eps)),
        threads=_threads(x),
    )


def row_norm_backward(
    dy: Array,
    x: Array,
    dx: Array,
    gamma: Array,
    mean: Array | None,
    inv_std: Array,
    dgamma: Array | None,
    dbeta: Array | None,
    accumulate: bool,
) -> None:
    """dx, and dgamma and dbeta where they are not None."""
    if x.size == 0:
        _no_sums(dgamma, dbeta, accumulate)
        return
    samples, groups, channels, inner = x.shape
    rows, columns = samples * groups, groups * channels
    rests = cupy().empty(rows, compute_dtype(x.dtype))
    gradient = FAMILY.kernel("row_gradient<{T}>", x.dtype)
    statistics = (mean, inv_std, rests)

    def rows_to(target: Array | None) -> None:
        given = (dy, x, target, gamma, *statistics, rows, groups, channels, inner)
        launch_rows(gradient, rows, *given, threads=_threads(x))

    sums = dgamma is not None or dbeta is not None
    in_place = dx.data.ptr in (dy.data.ptr, x.data.ptr)
    rows_to(None if sums and in_place else dx)
    if not sums:
        return
    splits = shares(samples, columns, inner)
    partial = partial_sums(2, columns, inner, splits)
    kernel = FAMILY.kernel("row_parameter_sums<{T}>", x.dtype)
    launch(
        kernel,
        tasks(columns, inner, splits),
        *(dy, x, *statistics, partial, samples, groups, channels, inner, splits),
    )
    kernel = FAMILY.kernel("row_parameter_gradients<{T}>", x.dtype)
    shape = (samples, columns, inner, splits)
    launch_rows(kernel, columns, partial, dgamma, dbeta, *shape, int(accumulate), threads=_FEW_THREADS)
    if in_place:
        rows_to(dx)


_FEW_THREADS = 64  # for a block that adds up the shares of a channel


def _threads(x: Array) -> int:
    """A warp for 512 elements of a row, at most 16 of them."""
    return 32 * max(1, min(16, int(x.shape[2] * x.shape[3]) // 512))


def _no_sums(dgamma: Array | None, dbeta: Array | None, accumulate: bool) -> None:
    for array in (dgamma, dbeta):
        if array is not None and not accumulate:
            array.fill(0)


def _constants(x: Array) -> Array:
    return cupy().empty(_CONSTANTS * x.shape[1], compute_dtype(x.dtype))


def _statistics(
    x: Array, gamma: Array, beta: Array, mean: Array, inv_std: Array, variance: Array | None, eps: float
) -> Array:
    """The constants of every channel; and the statistics, where variance is not None."""
    outer, channels, inner = x.shape
    splits = shares(outer, channels, inner)
    shape = (outer, channels, inner, splits)
    partial, constants = partial_sums(2, channels, inner, splits), _constants(x)
    launch(FAMILY.kernel("batch_statistics<{T}>", x.dtype), tasks(channels, inner, splits), x, partial, *shape)
    launch_rows(
        FAMILY.kernel("batch_constants<{T}>", x.dtype),
        channels,
        *(x, partial, gamma, beta, mean, inv_std, variance, constants, *shape, np.float64(eps)),
        threads=_FEW_THREADS,
    )
    return constants


def _apply(x: Array, y: Array, constants: Array, activation: Fused | None, dropout: Dropout) -> None:
    outer, channels, inner = x.shape
    splits = shares(outer, channels, inner, 4096)
    kernel = _fusing("batch_apply<{T}, {A}, ", activation, dropout, x.dtype)
    shape = (outer, channels, inner, splits)
    launch(kernel, tasks(channels, inner, splits), x, y, constants, *shape, *_fusion(x, activation, dropout))


def _fusing(kernel: str, activation: Fused | None, dropout: Dropout, dtype: Any) -> Any:
    """The kernel with this activation and perhaps dropout."""
    if activation is None and dropout is None:
        return FAMILY.kernel(kernel.replace("{A}", NONE) + "false>", dtype)
    return FUSED.kernel(kernel.replace("{A}", cxx(activation)) + "true>", dtype)


def _fusion(x: Array, activation: Fused | None, dropout: Dropout) -> tuple[Any, ...]:
    """What such kernels take last."""
    threshold, scale, seed, offset = (0, 1.0, 0, 0) if dropout is None else dropout
    drawn = (scalar(scale, x.dtype), np.uint64(seed), np.uint64(offset), threshold)
    return (*numbers(activation, x.dtype), *drawn)
