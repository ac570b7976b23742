"""Batch norm for Numba.

Sums are taken in double, in whatever order LLVM makes vectors of: about an element of the channel first, then about the
mean found, which is kept in two parts. Channels are taken in blocks that fit the cache. An activation, and dropout, run
over the whole result, and the 16-bit formats are widened and rounded by NumPy, a copy each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from fastnn.fusion import Fused
from fastnn.kernels.jit import backward, forward
from fastnn.kernels.jit.dropout import scaled
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

_BLOCK = 1 << 17  # elements of a block of channels


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
    dropout: tuple[int, float, int, int] | None,
) -> None:
    """y, mean, inv_std and the biased variance (float64) of x[outer, channels, inner], none of which may be 0."""
    wide, result = wide_of(x), room_for(y)
    _over_channels(wide, lambda c0, c1: _train(wide, result, gamma, beta, mean, inv_std, variance, eps, c0, c1))
    finish(result, y, activation, dropout)


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
    wide, result = wide_of(x), room_for(y)
    scale = gamma * (1 / np.sqrt(variance + eps)).astype(gamma.dtype)
    _over_channels(wide, lambda c0, c1: _apply(wide, result, mean, np.zeros_like(mean), scale, beta, c0, c1))
    finish(result, y, activation)


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
    dropout: tuple[int, float, int, int] | None,
) -> None:
    """dx, and dgamma and dbeta where they are not None.

    beta matters with an activation only; dz takes its gradient or dropout's.
    """
    wide, incoming, result = wide_of(x), wide_of(dy), room_for(dx)
    if dropout is not None:
        threshold, scale, seed, offset = dropout
        scaled(incoming, dz, 0, threshold, scale, seed, offset)
        incoming = dz
    if activation is not None and x.size:
        z = np.empty_like(wide)
        _over_channels(wide, lambda c0, c1: _again(wide, z, mean, gamma * inv_std, beta, c0, c1))
        name, params = activation
        saved = z if activation.op.saves == "input" else forward(name, z, *params, out=z)
        backward(name, incoming, saved, *params, out=dz)
        incoming = dz
    sums = np.zeros((2, gamma.size))
    if x.size:
        _over_channels(wide, lambda c0, c1: _gradient(incoming, wide, result, gamma, mean, inv_std, *sums, c0, c1))
        finish(result, dx)
    store_sums(sums, dgamma, dbeta, accumulate)


def _over_channels(x: Array, function: Callable[[int, int], None]) -> None:
    outer, channels, inner = x.shape
    block = max(1, _BLOCK // max(1, outer * inner))

    def share(begin: int, end: int) -> None:
        for first in range(begin, end, block):
            function(first, min(end, first + block))

    if channels:
        over(channels, x.size, share)


# ---- loops ----


@njit(**SUMS)
def _sums_about(x: Any, centre: Any, c0: int, c1: int, first: Any, second: Any) -> None:
    """The sums of d = x - centre and of d^2 by channel."""
    first[:] = 0.0
    second[:] = 0.0
    for n in range(x.shape[0]):
        for c in range(c0, c1):
            middle, s, q = np.float64(centre[c - c0]), 0.0, 0.0
            for i in range(x.shape[2]):
                d = np.float64(x[n, c, i]) - middle
                s += d
                q += d * d
            first[c - c0] += s
            second[c - c0] += q


@njit(**OPTIONS)
def _statistics(x: Any, hi: Any, lo: Any, variance: Any, c0: int, c1: int) -> None:
    """The mean in two parts and the biased variance of channels c0 to c1."""
    sums, squares, count = np.empty(c1 - c0), np.empty(c1 - c0), np.float64(x.shape[0] * x.shape[2])
    for c in range(c0, c1):
        hi[c - c0] = near(x[0, c, 0])
    _sums_about(x, hi, c0, c1, sums, squares)
    for c in range(c1 - c0):
        hi[c] = np.float64(hi[c]) + sums[c] / count
    finite = hi.copy()
    for c in range(c1 - c0):
        finite[c] = near(hi[c])
    _sums_about(x, finite, c0, c1, sums, squares)
    for c in range(c1 - c0):
        rest = sums[c] / count
        spread = squares[c] - sums[c] * rest
        variance[c] = 0.0 if spread < 0 else spread / count
        lo[c] = rest if np.isfinite(rest) else 0.0


@njit(**OPTIONS)
def _apply(x: Any, y: Any, hi: Any, lo: Any, scale: Any, beta: Any, c0: int, c1: int) -> None:
    for n in range(x.shape[0]):
        for c in range(c0, c1):
            high, low, factor, shift = hi[c], lo[c], scale[c], beta[c]
            for i in range(x.shape[2]):
                y[n, c, i] = ((x[n, c, i] - high) - low) * factor + shift


@njit(**OPTIONS)
def _train(
    x: Any,
    y: Any,
    gamma: Any,
    beta: Any,
    mean: Any,
    inv_std: Any,
    variance: Any,
    eps: float,
    c0: int,
    c1: int,
) -> None:
    lo = np.empty_like(mean)
    _statistics(x, mean[c0:c1], lo[c0:c1], variance[c0:c1], c0, c1)
    for c in range(c0, c1):
        inv_std[c] = 1.0 / np.sqrt(variance[c] + eps)
    _apply(x, y, mean, lo, gamma * inv_std, beta, c0, c1)
    for c in range(c0, c1):
        mean[c] += lo[c]  # what float64 can hold of it


@njit(**OPTIONS)
def _again(x: Any, z: Any, mean: Any, scale: Any, beta: Any, c0: int, c1: int) -> None:
    """The activation's input as the forward pass had it."""
    hi, lo, variance = np.empty_like(mean), np.empty_like(mean), np.empty(mean.size)
    _statistics(x, hi[c0:c1], lo[c0:c1], variance[c0:c1], c0, c1)
    _apply(x, z, hi, lo, scale, beta, c0, c1)


@njit(**SUMS)
def _gradient_sums(dy: Any, x: Any, c0: int, c1: int, centre: Any, of_dy: Any, of_product: Any, of_d: Any) -> None:
    for n in range(x.shape[0]):
        for c in range(c0, c1):
            middle, g, gd, total = np.float64(centre[c]), 0.0, 0.0, 0.0
            for i in range(x.shape[2]):
                d, incoming = np.float64(x[n, c, i]) - middle, np.float64(dy[n, c, i])
                g += incoming
                gd += incoming * d
                total += d
            of_dy[c] += g
            of_product[c] += gd
            of_d[c] += total


@njit(**OPTIONS)
def _gradient(
    dy: Any,
    x: Any,
    dx: Any,
    gamma: Any,
    mean: Any,
    inv_std: Any,
    dgamma: Any,
    dbeta: Any,
    c0: int,
    c1: int,
) -> None:
    P = type(gamma[0])
    count = np.float64(x.shape[0] * x.shape[2])
    g, gd, rest = np.zeros(mean.size), np.zeros(mean.size), np.zeros(mean.size)
    _gradient_sums(dy, x, c0, c1, mean, g, gd, rest)
    for c in range(c0, c1):
        rest[c] /= count
        product = (gd[c] - rest[c] * g[c]) * inv_std[c]
        dgamma[c], dbeta[c] = product, g[c]
        gd[c] = product * inv_std[c] / count
    for n in range(x.shape[0]):
        for c in range(c0, c1):
            high, low, factor = mean[c], P(rest[c]), gamma[c] * inv_std[c]
            mean_dy, slope = P(g[c] / count), P(gd[c])
            for i in range(x.shape[2]):
                t = (x[n, c, i] - high) - low
                dx[n, c, i] = factor * ((dy[n, c, i] - mean_dy) - t * slope)
