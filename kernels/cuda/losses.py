"""Losses and their gradients. Source: losses.cu.

The sum of the losses stays on the device: these functions return an array of shape () and dtype float64 where those of
the other backends return a float. `scale` may be such an array too, for only the device knows how much the labels
count: `check_labels` looks for no wrong label, which would take waiting for the device. A label that is no class makes
its loss, and so the sum, and its gradient NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels.cuda.classes import expressions, launch_columns
from fastnn.kernels.cuda.compiler import Family, cupy, launch
from fastnn.kernels.cuda.sums import ADD_UP, added_up, blocks, partial_sums, threads

Array = Any
Number = Any  # a float, or an array of shape () on the device

FAMILY = Family(
    "losses",
    *expressions("cross_entropy<{T}", "hinge<{T}"),
    "squared_error<{T}>",
    "binary_cross_entropy<{T}>",
    "count_labels",
    ADD_UP,
)


def check_labels(labels: Array, classes: int, ignored: int | None, weight: Array | None) -> tuple[int, Array]:
    """(-1, how many labels count, with their class's weight): the latter stays on the device."""
    count = labels.size
    partial = partial_sums(count)
    options = (count, classes, int(ignored is not None), 0 if ignored is None else ignored)
    kernel = FAMILY.kernel("count_labels", np.float32)
    launch(kernel, blocks(count), labels, weight, partial, *options, threads=threads(count))
    return -1, _total(np.float32, partial)


def cross_entropy(
    logits: Array,
    labels: Array | None,
    targets: Array | None,
    weight: Array | None,
    ignored: int,
    smoothing: float,
    scale: Number,
    gradient: Array | None,
    losses: Array | None,
) -> Array:
    """The sum over the columns of logits (outer, classes, inner) of -sum of target * log_softmax."""
    each = _each(logits, losses)
    launch_columns(
        FAMILY,
        "cross_entropy<{T}",
        logits,
        *(logits, labels, targets, weight, gradient, each),
        *(ignored, np.float64(smoothing), *_factor(scale)),
    )
    return _total(logits.dtype, each)


def hinge_loss(
    scores: Array,
    labels: Array,
    ignored: int,
    margin: float,
    scale: Number,
    gradient: Array | None,
    losses: Array | None,
) -> Array:
    """The sum over the columns of scores (outer, classes, inner) of sum of max(0, x - score of the label + margin)."""
    each = _each(scores, losses)
    options = (ignored, np.float64(margin), *_factor(scale))
    launch_columns(FAMILY, "hinge<{T}", scores, scores, labels, gradient, each, *options)
    return _total(scores.dtype, each)


def squared_error(x: Array, target: Array, scale: float, gradient: Array | None, losses: Array | None) -> Array:
    """The sum of (x - target)^2."""
    partial = partial_sums(x.size)
    kernel = FAMILY.kernel("squared_error<{T}>", x.dtype)
    to = (gradient, losses, partial)
    launch(kernel, blocks(x.size), x, target, *to, x.size, np.float64(scale), threads=threads(x.size))
    return _total(x.dtype, partial)


def binary_cross_entropy(
    x: Array,
    target: Array,
    weight: Array | None,
    positive_weight: Array | None,
    scale: float,
    gradient: Array | None,
    losses: Array | None,
) -> Array:
    """The sum of weight ((1 - t) softplus(x) + positive_weight t softplus(-x))."""
    partial = partial_sums(x.size)
    weights = (weight, positive_weight)
    launch(
        FAMILY.kernel("binary_cross_entropy<{T}>", x.dtype),
        blocks(x.size),
        *(x, target, *weights, gradient, losses, partial, x.size),
        *(int(each is not None and each.ndim > 0) for each in weights),
        np.float64(scale),
        threads=threads(x.size),
    )
    return _total(x.dtype, partial)


def _each(scores: Array, losses: Array | None) -> Array:
    """Where every column's loss goes."""
    return cupy().empty(scores.shape[0] * scores.shape[2], np.float64) if losses is None else losses.reshape(-1)


def _factor(scale: Number) -> tuple[np.float64, Array | None]:
    return (np.float64(scale), None) if isinstance(scale, (int, float)) else (np.float64(1), scale)


def _total(dtype: Any, partial: Array) -> Array:
    return added_up(FAMILY, dtype, partial).reshape(())
