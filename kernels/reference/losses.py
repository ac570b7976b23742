"""The losses by the formulas of their rows, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.kernels.reference.rounding import store, widen
from fastnn.table.losses import ROWS, cross_entropy_parts

Array = npt.NDArray[Any]

_ORACLES = {row.name: row.oracle for row in ROWS}


def check_labels(labels: Array, classes: int, ignored: int | None, weight: Array | None) -> tuple[int, float]:
    """(the flat index of the first label that is no class, or -1; how many labels count, with their class's weight)."""
    flat = labels.reshape(-1)
    counts = np.ones(flat.shape, bool) if ignored is None else flat != ignored
    bad = np.flatnonzero(counts & ((flat < 0) | (flat >= classes)))
    if bad.size:
        return int(bad[0]), 0.0
    return -1, float(np.count_nonzero(counts) if weight is None else np.sum(weight[flat[counts]]))


@np.errstate(all="ignore")
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
    given = labels if targets is None else widen(np.moveaxis(targets, 1, -1))
    each = None if weight is None else widen(weight)
    wide = widen(np.moveaxis(logits, 1, -1))
    exact, slope, _ = cross_entropy_parts(wide, given, each, ignored, smoothing)
    return _finish(exact, np.moveaxis(slope, -1, 1), scale, gradient, losses)


@np.errstate(all="ignore")
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
    options = {"axis": 1, "margin": margin, "reduction": "none"}
    exact, slope = _ORACLES["hinge_loss_and_grad"](scores=widen(scores), labels=labels, **options)
    return _finish(exact, slope, scale, gradient, losses)


@np.errstate(all="ignore")
def squared_error(x: Array, target: Array, scale: float, gradient: Array | None, losses: Array | None) -> float:
    """The sum of (x - target)^2."""
    exact, slope = _ORACLES["squared_error_and_grad"](widen(x), widen(target), "none")
    return _finish(exact, slope, scale, gradient, losses)


@np.errstate(all="ignore")
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
    wide = (None if array is None else widen(array) for array in (x, target, weight, positive_weight))
    exact, slope = _ORACLES["binary_cross_entropy_with_logits_and_grad"](*wide, "none")
    return _finish(exact, slope, scale, gradient, losses)


def _finish(exact: Array, slope: Array, scale: float, gradient: Array | None, losses: Array | None) -> float:
    if gradient is not None:
        store(slope * scale, gradient)
    if losses is not None:
        losses[...] = exact
    return float(np.sum(exact))
