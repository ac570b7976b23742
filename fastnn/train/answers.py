"""What losses have in common with each other: which answers are right, and what guessing costs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.arrays import host, on_device
from fastnn.nn.losses import BCEWithLogitsLoss, CrossEntropyLoss, HingeLoss, MSELoss

Array = npt.NDArray[Any]


def right_answers(criterion: Any, scores: Array, labels: Array) -> tuple[Any, int] | None:
    """How many answers are right, and of how many; None where labels are no classes.

    Integer labels beside scores of one dimension more, with the classes along axis 1: the largest score counts. So it
    does beside rows of probabilities, as mixup makes them, under CrossEntropyLoss. Under BCEWithLogitsLoss it is the
    sign of each score. Of arrays on a device the first number is an array of no axes there: nobody waits for it.
    """
    if isinstance(criterion, BCEWithLogitsLoss):
        return _count((scores > 0) == (labels > 0.5)), scores.size
    if scores.ndim < 2 or scores.shape[1] < 2:
        return None
    if labels.dtype.kind in "iu" and labels.shape == scores.shape[:1] + scores.shape[2:]:
        return _count(scores.argmax(1) == labels), labels.size
    if isinstance(criterion, CrossEntropyLoss) and labels.shape == scores.shape:
        chosen = scores.argmax(1) == labels.argmax(1)
        return _count(chosen), chosen.size
    return None


def _count(right: Array) -> Any:
    return right.sum() if on_device(right) else int(np.count_nonzero(right))


def guessing_loss(criterion: Any, scores: Array, labels: Array) -> tuple[float, str] | None:
    """The loss of a model that says the same of all classes, or the mean of all targets, and its formula.

    None where it is not known. It is what a classifier must begin with.
    """
    classes = scores.shape[1] if scores.ndim > 1 else 1
    if isinstance(criterion, CrossEntropyLoss) and classes > 1:
        return math.log(classes), f"-ln(1/{classes})"
    if isinstance(criterion, BCEWithLogitsLoss):
        return math.log(2), "-ln(1/2)"
    if isinstance(criterion, HingeLoss) and classes > 1:
        return criterion.margin * (classes - 1), f"{criterion.margin:g} ({classes} - 1)"
    if isinstance(criterion, MSELoss):
        return float(np.var(host(labels), dtype=np.float64)), "the variance of the targets"
    return None
