"""The losses, compiled by Numba: the functions of kernels/cpu/losses.pyx.

float16 and bfloat16 are widened to float32 as a whole, which the native backend does element by element.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from fastnn.kernels.jit.exp import exp_of_nonpositive, log1p_unit
from fastnn.kernels.jit.intrinsics import fmadd, vmax
from fastnn.kernels.jit.parallel import run_ranges
from fastnn.kernels.jit.rows import (
    COLUMNS,
    LANES,
    OPTIONS,
    exponentials,
    from_rows,
    highest,
    log_of_sum,
    sum_of_products,
    summed,
    to_rows,
)

Array = npt.NDArray[Any]

_CHUNK = 1 << 14  # elements that a partial sum is over
_BLOCK = 256  # elements that loops LLVM can vectorise have in hand


@njit(**OPTIONS)
def _check(labels: Any, classes: int, ignores: bool, ignored: int, weight: Any) -> tuple[int, float]:
    counted = 0.0
    for i in range(labels.size):
        if ignores and labels[i] == ignored:
            continue
        if labels[i] < 0 or labels[i] >= classes:
            return i, counted
        counted += weight[labels[i]] if weight.size else 1.0
    return -1, counted


@njit(**OPTIONS)
def _cross_entropy(
    logits: Any,
    labels: Any,
    targets: Any,
    weight: Any,
    ignored: int,
    smoothing: float,
    scale: float,
    gradient: Any,
    losses: Any,
    begin: int,
    end: int,
) -> None:
    """Labels, targets, weight and gradient are empty where there are none."""
    classes, inner = logits.shape[1], logits.shape[2]
    number = logits.dtype.type
    rows, shares = np.empty((COLUMNS, classes), logits.dtype), np.empty((COLUMNS, classes), logits.dtype)
    e, difference = np.empty(classes, logits.dtype), np.empty(classes, logits.dtype)
    ones = np.ones(classes, logits.dtype)
    lanes, sums, ties = np.empty(LANES, logits.dtype), np.empty(LANES), np.empty(LANES, np.int64)
    spread = targets.size > 0 or smoothing != 0.0
    keep, even = number(1.0 - smoothing), number(smoothing / classes)
    for first in range(begin, end, COLUMNS):
        count = min(COLUMNS, end - first)
        to_rows(logits, rows, first, count)
        if targets.size:
            to_rows(targets, shares, first, count)
        for j in range(count):
            row, share = rows[j], shares[j]
            top = highest(row, lanes)
            of_top, _, _ = exponentials(row, e, top)
            log, total = log_of_sum(row, e, top, of_top, sums, ties)
            loss, weights, own, label = 0.0, 0.0, 0.0, -1
            if spread:
                for c in range(classes):
                    t = fmadd(share[c], keep, even) if targets.size else even
                    share[c] = t * weight[c] if weight.size else t
                    difference[c] = number(0.0) if share[c] == number(0.0) else top - row[c]
                loss, weights = sum_of_products(share, difference, sums), sum_of_products(share, ones, sums)
            if labels.size:
                label = labels[(first + j) // inner, (first + j) % inner]
                if label != ignored:
                    own = (1.0 - smoothing) * (np.float64(weight[label]) if weight.size else 1.0)
                    loss += own * (np.float64(top) - np.float64(row[label])) if own != 0.0 else 0.0
            weights += own
            counts = not (labels.size and label == ignored)
            losses[(first + j) // inner, (first + j) % inner] = loss + weights * log if counts else 0.0
            if gradient.size:
                factor, negative = weights * scale / total, number(-scale)
                high = number(factor)
                low = number(factor - np.float64(high))
                for c in range(classes):
                    row[c] = fmadd(e[c], high, e[c] * low)
                if spread:
                    for c in range(classes):
                        row[c] = fmadd(share[c], negative, row[c])
                if not counts:
                    row[:] = 0
                elif labels.size:
                    if spread:
                        row[label] = number((weights * e[label] / total - own - share[label]) * scale)
                    else:
                        row[label] = number((np.float64(e[label]) - total) / total * own * scale)
        if gradient.size:
            from_rows(gradient, rows, first, count)


@njit(**OPTIONS)
def _hinge(
    scores: Any,
    labels: Any,
    ignored: int,
    margin: float,
    scale: float,
    gradient: Any,
    losses: Any,
    begin: int,
    end: int,
) -> None:
    inner = scores.shape[2]
    number = scores.dtype.type
    rows = np.empty((COLUMNS, scores.shape[1]), scores.dtype)
    excess, sums = np.empty(scores.shape[1], scores.dtype), np.empty(LANES)
    zero, width, step = number(0.0), number(margin), number(scale)
    for first in range(begin, end, COLUMNS):
        count = min(COLUMNS, end - first)
        to_rows(scores, rows, first, count)
        for j in range(count):
            row = rows[j]
            label = labels[(first + j) // inner, (first + j) % inner]
            if label == ignored:
                row[:] = 0
                losses[(first + j) // inner, (first + j) % inner] = 0.0
                continue
            own, active = row[label], 0
            for c in range(row.size):
                h = width if row[c] == own else (row[c] - own) + width
                excess[c] = vmax(zero, h)
                row[c] = step if h > zero else zero if h == h else h
            excess[label] = zero
            for c in range(row.size):
                active += 1 if excess[c] > zero else 0
            loss = summed(excess, sums)
            row[label] = number(-scale * active) if loss == loss else number(loss)
            losses[(first + j) // inner, (first + j) % inner] = loss
        if gradient.size:
            from_rows(gradient, rows, first, count)


@njit(**OPTIONS)
def _squared_error(x: Any, target: Any, scale: float, gradient: Any, losses: Any, begin: int, end: int) -> float:
    total, slope = 0.0, x.dtype.type(2.0 * scale)
    for i in range(begin, end):
        d = x[i] - target[i]
        total += np.float64(d) * np.float64(d)
        if gradient.size:
            gradient[i] = slope * d
        if losses.size:
            losses[i] = d * d
    return total


@njit(**OPTIONS)
def _binary(
    x: Any,
    target: Any,
    weight: Any,
    positive_weight: Any,
    scale: float,
    gradient: Any,
    losses: Any,
    begin: int,
    end: int,
) -> float:
    total = 0.0
    number = x.dtype.type
    zero, one, step = number(0.0), number(1.0), number(scale)
    weights, positives = np.empty(_BLOCK, x.dtype), np.empty(_BLOCK, x.dtype)
    loss, slope = np.empty(_BLOCK, x.dtype), np.empty(_BLOCK, x.dtype)
    sums = np.empty(LANES)
    weights[:], positives[:] = weight[0], positive_weight[0]
    for first in range(begin, end, _BLOCK):
        count = min(end - first, _BLOCK)
        if weight.size > 1:
            weights[:count] = weight[first : first + count]
        if positive_weight.size > 1:
            positives[:count] = positive_weight[first : first + count]
        for i in range(count):
            v, t, w = x[first + i], target[first + i], weights[i]
            e = exp_of_nonpositive(-abs(v))
            log = log1p_unit(e)
            negative, positive = one - t, positives[i] * t
            below, above = negative * (vmax(zero, v) + log), positive * (vmax(zero, -v) + log)
            each = (zero if negative == zero else below) + (zero if positive == zero else above)
            high = one / (one + e)
            low = e * high
            steep = negative * (high if v >= zero else low) - positive * (low if v >= zero else high)
            loss[i] = w * (each if v == v else v)
            slope[i] = w * (steep if v == v else v) * step
        total += summed(loss[:count], sums)
        if gradient.size:
            gradient[first : first + count] = slope[:count]
        if losses.size:
            losses[first : first + count] = loss[:count]
    return total


def check_labels(labels: Array, classes: int, ignored: int | None, weight: Array | None) -> tuple[int, float]:
    """(the flat index of the first label that is no class, or -1; how many labels count, with their class's weight)."""
    each = np.empty(0) if weight is None else weight
    bad, counted = _check(labels.reshape(-1), classes, ignored is not None, ignored or 0, each)
    return int(bad), float(counted)


def cross_entropy(
    logits: Array,
    labels: Array | None,
    targets: Array | None,
    weight: Array | None,
    ignored: int,
    smoothing: float,
    scale: float,
    gradient: Array | None,
    losses: Array | None,
) -> float:
    """The sum over the columns of logits (outer, classes, inner) of -sum of target * log_softmax."""
    wide = _widened(logits)
    labels = np.empty((0, 0), np.int64) if labels is None else labels
    targets = np.empty((0, 0, 0), wide.dtype) if targets is None else _widened(targets)
    weight = np.empty(0, wide.dtype) if weight is None else weight
    options = (float(smoothing), float(scale))
    return _over_columns(
        lambda out, each, begin, end: _cross_entropy(
            wide, labels, targets, weight, ignored, *options, out, each, begin, end
        ),
        wide,
        gradient,
        losses,
    )


def hinge_loss(
    scores: Array,
    labels: Array,
    ignored: int,
    margin: float,
    scale: float,
    gradient: Array | None,
    losses: Array | None,
) -> float:
    """The sum over the columns of scores (outer, classes, inner) of sum of max(0, x - score of the label + margin)."""
    wide = _widened(scores)
    options = (float(margin), float(scale))
    return _over_columns(
        lambda out, each, begin, end: _hinge(wide, labels, ignored, *options, out, each, begin, end),
        wide,
        gradient,
        losses,
    )


def squared_error(x: Array, target: Array, scale: float, gradient: Array | None, losses: Array | None) -> float:
    """The sum of (x - target)^2."""
    a, b = _widened(x).reshape(-1), _widened(target).reshape(-1)
    return _over_elements(
        lambda out, each, begin, end: _squared_error(a, b, float(scale), out, each, begin, end), a, gradient, losses
    )


def binary_cross_entropy(
    x: Array,
    target: Array,
    weight: Array | None,
    positive_weight: Array | None,
    scale: float,
    gradient: Array | None,
    losses: Array | None,
) -> float:
    """The sum of weight ((1 - t) softplus(x) + positive_weight t softplus(-x))."""
    a, b = _widened(x).reshape(-1), _widened(target).reshape(-1)
    one = np.ones(1, a.dtype)
    w, p = (one if each is None else each.reshape(-1) for each in (weight, positive_weight))
    return _over_elements(
        lambda out, each, begin, end: _binary(a, b, w, p, float(scale), out, each, begin, end), a, gradient, losses
    )


def _widened(array: Array) -> Array:
    return array if array.itemsize > 2 else array.astype(np.float32)


def _narrowed(result: Array, gradient: Array | None) -> None:
    if gradient is not None and result.base is not gradient and result is not gradient:
        with np.errstate(all="ignore"):
            gradient[...] = result.reshape(gradient.shape)


def _over_columns(
    loop: Callable[[Array, Array, int, int], None], wide: Array, gradient: Array | None, losses: Array | None
) -> float:
    """The sum of the losses of all columns, in an order that threads have no part in."""
    outer, classes, inner = wide.shape
    if wide.size == 0:
        return 0.0
    each = np.empty((outer, inner)) if losses is None else losses
    out = _gradient_like(wide, gradient)
    run_ranges(wide.size, lambda begin, end: loop(out, each, -(-begin // classes), -(-end // classes)))
    _narrowed(out, gradient)
    return float(np.sum(each))


def _over_elements(
    loop: Callable[[Array, Array, int, int], float], x: Array, gradient: Array | None, losses: Array | None
) -> float:
    """The same for elements: partial sums over chunks."""
    partial = np.zeros(-(-x.size // _CHUNK))
    out = _gradient_like(x, gradient).reshape(-1)
    each = np.empty(0, x.dtype) if losses is None else losses.reshape(-1)

    def share(begin: int, end: int) -> None:
        for chunk in range(-(-begin // _CHUNK), -(-end // _CHUNK)):
            partial[chunk] = loop(out, each, chunk * _CHUNK, min(x.size, (chunk + 1) * _CHUNK))

    run_ranges(x.size, share)
    _narrowed(out, gradient)
    return float(np.sum(partial))


def _gradient_like(wide: Array, gradient: Array | None) -> Array:
    """Where loops write the gradient: nowhere, into itself, or into an array of the dtype computed in."""
    if gradient is None:
        return np.empty((0,) * wide.ndim, wide.dtype)
    return gradient if gradient.dtype == wide.dtype else np.empty_like(wide)
