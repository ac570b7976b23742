"""Normalisation in plain NumPy: the oracles of the table, rounded once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.fusion import Fused
from fastnn.generator import kept
from fastnn.table.normalization_oracles import activate, activation_gradient, gradient, moments

Array = npt.NDArray[Any]


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
    with np.errstate(all="ignore"):
        wide_mean, d, wide_variance = moments(_widen(x), (0, 2))
        inv = 1 / np.sqrt(wide_variance + eps)
        _store(y, _dropped(dropout, _activated(activation, d * inv * _channel(gamma) + _channel(beta))))
        mean[...], inv_std[...], variance[...] = (a[0, :, 0] for a in (wide_mean, inv, wide_variance))


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
    with np.errstate(all="ignore"):
        scale = _channel(gamma) / np.sqrt(_channel(variance) + eps)
        _store(y, _activated(activation, (_widen(x) - _channel(mean)) * scale + _channel(beta)))


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
    """dx, and dgamma and dbeta where they are not None. beta matters with an activation only, dz not at all."""
    with np.errstate(all="ignore"):
        _, d, _ = moments(_widen(x), (0, 2)) if x.size else (None, _widen(x), None)
        xhat = d * _channel(inv_std)
        wide = _dropped(dropout, _widen(dy))
        if activation is not None:
            wide = activation_gradient(_plain(activation), xhat * _channel(gamma) + _channel(beta), wide)
        _store_sum(dgamma, (wide * xhat).sum(axis=(0, 2)), accumulate)
        _store_sum(dbeta, wide.sum(axis=(0, 2)), accumulate)
        if x.size:
            _store(dx, gradient(wide, d, _channel(inv_std), _channel(gamma), (0, 2))[0])


def row_norm(x: Array, y: Array, gamma: Array, beta: Array, mean: Array | None, inv_std: Array, eps: float) -> None:
    """y, mean and inv_std of x[samples, groups, channels, inner]; mean None: RMS norm. gamma, beta: [columns]."""
    if x.size == 0:
        return
    with np.errstate(all="ignore"):
        wide = _widen(x)
        if mean is not None:
            wide_mean, d, variance = moments(wide, (2, 3))
            mean[...] = wide_mean[:, :, 0, 0]
        else:
            d, variance = wide, (wide * wide).mean(axis=(2, 3), keepdims=True)
        inv = 1 / np.sqrt(variance + eps)
        inv_std[...] = inv[:, :, 0, 0]
        _store(y, d * inv * _of_groups(gamma, x) + _of_groups(beta, x))


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
    with np.errstate(all="ignore"):
        wide, wide_dy = _widen(x), _widen(dy)
        d = moments(wide, (2, 3))[1] if mean is not None and x.size else wide
        inv = _widen(inv_std).reshape(*x.shape[:2], 1, 1)
        _store_sum(dgamma, (wide_dy * d * inv).sum(axis=(0, 3)).reshape(-1), accumulate)
        _store_sum(dbeta, wide_dy.sum(axis=(0, 3)).reshape(-1), accumulate)
        if x.size:
            _store(dx, gradient(wide_dy, d, inv, _of_groups(gamma, x), (2, 3), mean is not None)[0])


def _channel(value: Array) -> Array:
    return _widen(value)[None, :, None]


def _of_groups(value: Array, x: Array) -> Array:
    return _widen(value).reshape(1, x.shape[1], x.shape[2], 1)


def _activated(activation: Fused | None, z: Array) -> Array:
    return z if activation is None else np.asarray(activate(_plain(activation), z))


def _dropped(dropout: tuple[int, float, int, int] | None, y: Array) -> Array:
    if dropout is None:
        return y
    threshold, scale, seed, offset = dropout
    return np.where(kept(0, y.size, threshold, seed, offset).reshape(y.shape), y * scale, 0.0)


def _plain(activation: Fused) -> tuple[Any, ...]:
    return (activation.name, *activation.params)


def _widen(value: Array) -> Array:
    return value.astype(np.float64)


def _store(out: Array, value: Array) -> None:
    """Round once; the 16-bit formats from what float32 would be."""
    single = np.float64 if out.dtype == np.float64 else np.float32
    out[...] = value.astype(single)


def _store_sum(out: Array | None, value: Array, accumulate: bool) -> None:
    if out is not None:
        out[...] = value + out if accumulate else value
