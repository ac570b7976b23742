"""Normalisation for Numba: the functions of kernels/cpu/normalization.pyx.

Sums are taken in double, in whatever order LLVM makes vectors of: about an element of the channel or row first, then
about the mean found, which is kept in two parts. Channels are taken in blocks that fit the cache. An activation, and
dropout, run over the whole result, and the 16-bit formats are widened and rounded by NumPy, a copy each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from fastnn.fusion import Fused
from fastnn.kernels.jit import backward, forward
from fastnn.kernels.jit.dropout import scaled
from fastnn.kernels.jit.parallel import run_ranges

Array = npt.NDArray[Any]

_BLOCK = 1 << 17  # elements of a block of channels
_OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy", "boundscheck": False}
_SUMS = {**_OPTIONS, "fastmath": {"reassoc"}}  # sums may be taken in any order, and nothing else is changed


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
    wide, result = _wide(x), _room(y)
    _over_channels(wide, lambda c0, c1: _train(wide, result, gamma, beta, mean, inv_std, variance, eps, c0, c1))
    _finish(result, y, activation, dropout)


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
    wide, result = _wide(x), _room(y)
    scale = gamma * (1 / np.sqrt(variance + eps)).astype(gamma.dtype)
    _over_channels(wide, lambda c0, c1: _apply(wide, result, mean, np.zeros_like(mean), scale, beta, c0, c1))
    _finish(result, y, activation)


def batch_norm_backward(
    dy: Array,
    x: Array,
    dx: Array,
    dz: Array,
    gamma: Array,
    beta: Array,
    mean: Array,
    inv_std: Array,
    dgamma: Array,
    dbeta: Array,
    activation: Fused | None,
    dropout: tuple[int, float, int, int] | None,
) -> None:
    """dx, dgamma and dbeta. beta matters with an activation only; dz takes its gradient or dropout's."""
    wide, incoming, result = _wide(x), _wide(dy), _room(dx)
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
    if x.size == 0:
        dgamma[...] = dbeta[...] = 0
        return
    _over_channels(wide, lambda c0, c1: _gradient(incoming, wide, result, gamma, mean, inv_std, dgamma, dbeta, c0, c1))
    _finish(result, dx)


def row_norm(x: Array, y: Array, gamma: Array, beta: Array, mean: Array | None, inv_std: Array, eps: float) -> None:
    """y, mean and inv_std of x[samples, groups, channels, inner]; mean None: RMS norm. gamma, beta: [columns]."""
    if x.size == 0:
        return
    wide, result, columns = _wide(x), _room(y), (x.shape[1], x.shape[2])
    found = np.empty(inv_std.shape, inv_std.dtype) if mean is None else mean
    _over(
        x.shape[0],
        x.size,
        lambda n0, n1: _rows(
            wide, result, gamma.reshape(columns), beta.reshape(columns), found, inv_std, eps, mean is not None, n0, n1
        ),
    )
    _finish(result, y)


def row_norm_backward(
    dy: Array,
    x: Array,
    dx: Array,
    gamma: Array,
    mean: Array | None,
    inv_std: Array,
    dgamma: Array | None,
    dbeta: Array | None,
) -> None:
    """dx, and dgamma and dbeta where they are not None."""
    wide, incoming, result = _wide(x), _wide(dy), _room(dx)
    columns, rows = (x.shape[1], x.shape[2]), x.shape[:2]
    centred = mean is not None
    known = np.zeros(rows, inv_std.dtype) if mean is None else mean.reshape(rows)
    sums = np.zeros((2, *columns))
    if x.size:
        rest = np.empty(rows)
        inverse = inv_std.reshape(rows)
        if dgamma is not None:
            _over(
                columns[0],
                x.size,
                lambda g0, g1: _column_sums(incoming, wide, known, inverse, centred, sums[0], sums[1], g0, g1),
            )
        weight = gamma.reshape(columns)
        _over(
            rows[0],
            x.size,
            lambda n0, n1: _row_gradient(incoming, wide, result, weight, known, inverse, rest, centred, n0, n1),
        )
        _finish(result, dx)
    if dgamma is not None:
        dgamma[...] = sums[0].reshape(-1)
    if dbeta is not None:
        dbeta[...] = sums[1].reshape(-1)


# ---- what is around the loops ----


def _wide(x: Array) -> Array:
    return x.astype(np.float32) if x.itemsize == 2 else x


def _room(y: Array) -> Array:
    return np.empty(y.shape, np.float32) if y.itemsize == 2 else y


def _finish(
    result: Array,
    y: Array,
    activation: Fused | None = None,
    dropout: tuple[int, float, int, int] | None = None,
) -> None:
    if activation is not None:
        forward(activation.name, result, *activation.params, out=result)
    if dropout is not None:
        threshold, scale, seed, offset = dropout
        scaled(result, result, 0, threshold, scale, seed, offset)
    if result is not y:
        with np.errstate(all="ignore"):
            y[...] = result


def _over(count: int, size: int, function: Callable[[int, int], None]) -> None:
    """Call function(begin, end) for ranges that make up `count` parts of `size` elements, on several threads."""
    each = max(1, size // count)
    run_ranges(
        size, lambda begin, end: function(min(count, -(-begin // each)), count if end == size else -(-end // each))
    )


def _over_channels(x: Array, function: Callable[[int, int], None]) -> None:
    outer, channels, inner = x.shape
    block = max(1, _BLOCK // max(1, outer * inner))

    def share(begin: int, end: int) -> None:
        for first in range(begin, end, block):
            function(first, min(end, first + block))

    if channels:
        _over(channels, x.size, share)


# ---- loops ----


@njit(**_SUMS)
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


@njit(**_OPTIONS)
def _near(x: Any) -> Any:
    """A finite number near x."""
    return x if np.isfinite(x) else type(x)(0)


@njit(**_OPTIONS)
def _statistics(x: Any, hi: Any, lo: Any, variance: Any, c0: int, c1: int) -> None:
    """The mean in two parts and the biased variance of channels c0 to c1."""
    sums, squares, count = np.empty(c1 - c0), np.empty(c1 - c0), np.float64(x.shape[0] * x.shape[2])
    for c in range(c0, c1):
        hi[c - c0] = _near(x[0, c, 0])
    _sums_about(x, hi, c0, c1, sums, squares)
    for c in range(c1 - c0):
        hi[c] = np.float64(hi[c]) + sums[c] / count
    finite = hi.copy()
    for c in range(c1 - c0):
        finite[c] = _near(hi[c])
    _sums_about(x, finite, c0, c1, sums, squares)
    for c in range(c1 - c0):
        rest = sums[c] / count
        spread = squares[c] - sums[c] * rest
        variance[c] = 0.0 if spread < 0 else spread / count
        lo[c] = rest if np.isfinite(rest) else 0.0


@njit(**_OPTIONS)
def _apply(x: Any, y: Any, hi: Any, lo: Any, scale: Any, beta: Any, c0: int, c1: int) -> None:
    for n in range(x.shape[0]):
        for c in range(c0, c1):
            high, low, factor, shift = hi[c], lo[c], scale[c], beta[c]
            for i in range(x.shape[2]):
                y[n, c, i] = ((x[n, c, i] - high) - low) * factor + shift


@njit(**_OPTIONS)
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


@njit(**_OPTIONS)
def _again(x: Any, z: Any, mean: Any, scale: Any, beta: Any, c0: int, c1: int) -> None:
    """The activation's input as the forward pass had it."""
    hi, lo, variance = np.empty_like(mean), np.empty_like(mean), np.empty(mean.size)
    _statistics(x, hi[c0:c1], lo[c0:c1], variance[c0:c1], c0, c1)
    _apply(x, z, hi, lo, scale, beta, c0, c1)


@njit(**_SUMS)
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


@njit(**_OPTIONS)
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


@njit(**_SUMS)
def _row_sums(x: Any, n: int, g: int, middle: float) -> Any:
    s, q = 0.0, 0.0
    for c in range(x.shape[2]):
        for i in range(x.shape[3]):
            d = np.float64(x[n, g, c, i]) - middle
            s += d
            q += d * d
    return s, q


@njit(**_OPTIONS)
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
                shift = np.float64(_near(x[n, g, 0, 0]))
                hi = P(shift + _row_sums(x, n, g, shift)[0] / count)
            s, q = _row_sums(x, n, g, np.float64(_near(hi)))
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


@njit(**_SUMS)
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


@njit(**_OPTIONS)
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


@njit(**_SUMS)
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
