"""NumPy's normalisation: two passes for the statistics, then as few as can be, in preallocated arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...problems.base import Array, Buffers
from ...problems.normalization import EPS, layout
from ...timing import Run
from ..base import Factory


def product_sum(a: Array, b: Array, axes: tuple[int, ...], scratch: Array | None = None) -> Any:
    """The sum of a * b along `axes`, which stay with length 1; where rows are summed the product is no array."""
    if a.ndim - 1 not in axes:
        return np.sum(np.multiply(a, b, out=scratch), axis=axes, keepdims=True)
    rows = np.einsum("...i,...i->...", a, b)[..., None]
    rest = axes[:-1]
    return np.sum(rows, axis=rest, keepdims=True) if rest else rows


def forward(b: Buffers) -> Run:
    form = layout(b)
    x, y = b.x.reshape(form.shape), b.out.reshape(form.shape)
    gamma = b.gamma.reshape(form.like(form.shared))
    beta = None if b.norm == "rms" else b.beta.reshape(form.like(form.shared))
    per_channel = form.reduced == form.shared
    compute = np.float32 if x.dtype == np.float16 else None
    t = None if x.ndim - 1 in form.reduced else np.empty_like(x)

    def run() -> Any:
        if beta is None:
            inverse = 1 / np.sqrt(product_sum(x, x, form.reduced) / form.each + EPS)
            np.multiply(x, inverse, out=y)
            np.multiply(y, gamma, out=y)
            return y, inverse
        mean = np.mean(x, axis=form.reduced, keepdims=True, dtype=compute)
        np.subtract(x, mean, out=y)
        variance = product_sum(y, y, form.reduced, t) / form.each
        inverse = 1 / np.sqrt(variance + EPS)
        if per_channel:
            np.multiply(y, gamma * inverse, out=y)
        else:
            np.multiply(y, inverse, out=y)
            np.multiply(y, gamma, out=y)
        np.add(y, beta, out=y)
        if b.get("activation") == "relu":
            np.clip(y, 0, np.inf, out=y)
        if b.get("running_mean") is not None:
            blend(b.running_mean, mean.ravel())
            blend(b.running_var, variance.ravel() * (form.each / (form.each - 1)))
        return y, mean, inverse

    return run


def blend(running: Array, batch: Array) -> None:
    running *= 0.9
    running += 0.1 * batch


def infer(b: Buffers) -> Run:
    x, y = b.x, b.out
    shape = (1, -1, *(1,) * (x.ndim - 2))

    def run() -> Any:
        scale = b.gamma / np.sqrt(b.running_var + EPS)
        np.multiply(x, scale.reshape(shape), out=y)
        np.add(y, (b.beta - b.running_mean * scale).reshape(shape), out=y)
        return np.clip(y, 0, np.inf, out=y) if b.get("activation") == "relu" else y

    return run


def backward(b: Buffers) -> Run:
    form = layout(b)
    dy, x, dx = (array.reshape(form.shape) for array in (b.dy, b.x, b.out))
    gamma = b.gamma.reshape(form.like(form.shared))
    inverse = b.get("inv_rms") if b.norm == "rms" else b.inv_std
    inverse = inverse.reshape(form.like(form.reduced))
    mean = None if b.norm == "rms" else b.mean.reshape(inverse.shape)
    normal, slope, t = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    per_channel = form.reduced == form.shared
    keep = np.empty(x.shape, bool)

    def run() -> Any:
        np.multiply(x if mean is None else np.subtract(x, mean, out=normal), inverse, out=normal)
        g = dy
        if b.get("activation") == "relu":
            np.multiply(normal, gamma, out=t)
            np.greater(t, -b.beta.reshape(gamma.shape), out=keep)
            g = np.multiply(dy, keep, out=slope)
        dgamma = product_sum(g, normal, form.shared, t)
        dbeta: Any = None if mean is None else np.sum(g, axis=form.shared, keepdims=True)
        if per_channel:
            np.multiply(normal, dgamma / form.each, out=t)
            np.subtract(g, t, out=t)
            np.subtract(t, dbeta / form.each, out=t)
            np.multiply(t, gamma * inverse, out=dx)
            return dx, dgamma, dbeta
        np.multiply(g, gamma, out=slope)
        np.multiply(normal, product_sum(slope, normal, form.reduced, t) / form.each, out=t)
        np.subtract(slope, t, out=t)
        if mean is not None:
            np.subtract(t, np.mean(slope, axis=form.reduced, keepdims=True), out=t)
        np.multiply(t, inverse, out=dx)
        return (dx, dgamma) if mean is None else (dx, dgamma, dbeta)

    return run


def train_and_backward(b: Buffers) -> Run:
    there = forward(b.with_values(out=b.y))
    axes = layout(b)
    statistics = np.zeros(b.gamma.shape, b.gamma.dtype), np.ones(b.gamma.shape, b.gamma.dtype)
    back = backward(b.with_values(out=b.dx, mean=statistics[0], inv_std=statistics[1]))
    assert axes.reduced == axes.shared

    def run() -> Any:
        _, mean, inverse = there()
        statistics[0][:], statistics[1][:] = mean.ravel(), inverse.ravel()
        return back()

    return run


FACTORIES: dict[str, Factory] = {
    "batch_norm_train": forward,
    "batch_norm_infer": infer,
    "batch_norm_backward": backward,
    "batch_norm_train+backward": train_and_backward,
    **{f"{kind}_norm": forward for kind in ("layer", "group", "instance", "rms")},
    **{f"{kind}_norm_backward": backward for kind in ("layer", "group", "instance", "rms")},
}
