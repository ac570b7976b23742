"""Layer, group, instance and RMS norm for Numba, as batch_norm.py does it: sums in double, the mean in two parts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from fastnn.kernels.jit.normalization_loops import (
    OPTIONS,
    SUMS,
    Array,
    finish,
    near,
    over,
    room_for,
    store_sums,
    wide_of,
)


def row_norm(x: Array, y: Array, gamma: Array, beta: Array, mean: Array | None, inv_std: Array, eps: float) -> None:
    """y, mean and inv_std of x[samples, groups, channels, inner]; mean None: RMS norm. gamma, beta: [columns]."""
    if x.size == 0:
        return
    wide, result, columns = wide_of(x), room_for(y), (x.shape[1], x.shape[2])
    found = np.empty(inv_std.shape, inv_std.dtype) if mean is None else mean
    over(
        x.shape[0],
        x.size,
        lambda n0, n1: _rows(
            wide, result, gamma.reshape(columns), beta.reshape(columns), found, inv_std, eps, mean is not None, n0, n1
        ),
    )
    finish(result, y)


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
    wide, incoming, result = wide_of(x), wide_of(dy), room_for(dx)
    columns, rows = (x.shape[1], x.shape[2]), x.shape[:2]
    centred = mean is not None
    known = np.zeros(rows, inv_std.dtype) if mean is None else mean.reshape(rows)
    sums = np.zeros((2, *columns))
    if x.size:
        rest = np.empty(rows)
        inverse = inv_std.reshape(rows)
        if dgamma is not None:
            over(
                columns[0],
                x.size,
                lambda g0, g1: _column_sums(incoming, wide, known, inverse, centred, sums[0], sums[1], g0, g1),
            )
        weight = gamma.reshape(columns)
        over(
            rows[0],
            x.size,
            lambda n0, n1: _row_gradient(incoming, wide, result, weight, known, inverse, rest, centred, n0, n1),
        )
        finish(result, dx)
    store_sums(sums.reshape(2, -1), dgamma, dbeta, accumulate)


# ---- loops ----


@njit(**SUMS)
def _row_sums(x: Any, n: int, g: int, middle: float) -> Any:
    s, q = 0.0, 0.0
    for c in range(x.shape[2]):
        for i in range(x.shape[3]):
            d = np.float64(x[n, g, c, i]) - middle
            s += d
            q += d * d
    return s, q


@njit(**OPTIONS)
def _rows(
    x: Any,
    y: Any,
    gamma: Any,
    beta: Any,
    mean: Any,
    inv_std: Any,
    eps: float,
    centred: bool,
    n0: int,
    n1: int,
) -> None:
    P = type(gamma[0, 0])
    count = np.float64(x.shape[2] * x.shape[3])
    for n in range(n0, n1):
        for g in range(x.shape[1]):
            hi, lo = P(0.0), P(0.0)
            if centred:
                shift = np.float64(near(x[n, g, 0, 0]))
                hi = P(shift + _row_sums(x, n, g, shift)[0] / count)
            s, q = _row_sums(x, n, g, np.float64(near(hi)))
            if centred:
                rest = s / count
                spread = q - s * rest
                q = 0.0 if spread < 0 else spread
                lo = P(rest) if np.isfinite(rest) else P(0.0)
                mean[n, g] = hi + lo  # what float64 can hold of it
            inverse = P(1.0 / np.sqrt(q / count + eps))
            inv_std[n, g] = inverse
            for c in range(x.shape[2]):
                factor, shifted = gamma[g, c], beta[g, c]
                for i in range(x.shape[3]):
                    y[n, g, c, i] = ((x[n, g, c, i] - hi) - lo) * inverse * factor + shifted


@njit(**SUMS)
def _row_gradient_sums(dy: Any, x: Any, gamma: Any, n: int, g: int, middle: float) -> Any:
    weighted, product, total = 0.0, 0.0, 0.0
    for c in range(x.shape[2]):
        factor = np.float64(gamma[g, c])
        for i in range(x.shape[3]):
            d, incoming = np.float64(x[n, g, c, i]) - middle, np.float64(dy[n, g, c, i]) * factor
            weighted += incoming
            product += incoming * d
            total += d
    return weighted, product, total


@njit(**OPTIONS)
def _row_gradient(
    dy: Any,
    x: Any,
    dx: Any,
    gamma: Any,
    mean: Any,
    inv_std: Any,
    rest: Any,
    centred: bool,
    n0: int,
    n1: int,
) -> None:
    P = type(gamma[0, 0])
    count = np.float64(x.shape[2] * x.shape[3])
    for n in range(n0, n1):
        for g in range(x.shape[1]):
            hi, inverse = mean[n, g], inv_std[n, g]
            weighted, product, total = _row_gradient_sums(dy, x, gamma, n, g, np.float64(hi))
            lost = total / count if centred else 0.0
            mean_g = P(weighted / count) if centred else P(0.0)
            wide = np.float64(inverse)
            slope = P((product - lost * weighted) * wide * wide / count)
            lo = P(lost)
            for c in range(x.shape[2]):
                factor = gamma[g, c]
                for i in range(x.shape[3]):
                    t = (x[n, g, c, i] - hi) - lo
                    dx[n, g, c, i] = inverse * ((dy[n, g, c, i] * factor - mean_g) - t * slope)


@njit(**SUMS)
def _column_sums(
    dy: Any,
    x: Any,
    mean: Any,
    inv_std: Any,
    centred: bool,
    dgamma: Any,
    dbeta: Any,
    g0: int,
    g1: int,
) -> None:
    """The sums of dy (x - mean) inv_std and of dy over samples and positions."""
    count = np.float64(x.shape[2] * x.shape[3])
    for n in range(x.shape[0]):
        for g in range(g0, g1):
            middle, inverse, lost = np.float64(mean[n, g]), np.float64(inv_std[n, g]), 0.0
            if centred:
                lost = _row_sums(x, n, g, middle)[0] / count
            for c in range(x.shape[2]):
                product, total = 0.0, 0.0
                for i in range(x.shape[3]):
                    incoming = np.float64(dy[n, g, c, i])
                    product += incoming * ((np.float64(x[n, g, c, i]) - middle) - lost)
                    total += incoming
                dgamma[g, c] += product * inverse
                dbeta[g, c] += total
