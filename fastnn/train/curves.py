"""What the loss curve, and the gap between training and validation, say about a run.

Source: Karpathy (2015), CS231n course notes, Babysitting the learning process, and lecture 6 of 2017. The thresholds
are rules of thumb, tried on runs that had the illness (tests/test_train_curves.py).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastnn.train.findings import Finding
from fastnn.train.history import History

__all__ = ["read_curves"]

Array = npt.NDArray[np.float64]
_LEAST = 30  # steps: fewer make no curve
_BINS = 40
_HELD_BACK = {"loss_flat", "lr_too_low", "plateau", "unfinished"}
_LARGE_STEPS = 2e-3  # an update ratio from which a plateau is rather a matter of the learning rate
_ILL_LAYERS = {"dead_units", "saturated", "activations_vanish", "gradients_vanish"}
_LAYERS_FIRST = "See to what is said of the layers first, then to the learning rate."


def read_curves(history: History) -> list[Finding]:
    """One finding about the loss curve, and one about the gap if there has been validation."""
    if history.diverged:
        return []
    loss = read_loss(history.steps.get("loss", np.zeros(0)), _pace(history))
    gap = read_gap(history.epochs)
    if loss is not None and loss.kind in _HELD_BACK:
        if any(finding.kind in _ILL_LAYERS for finding in history.findings):
            loss = Finding(loss.kind, loss.message.partition(", although")[0].rstrip(".") + ".", _LAYERS_FIRST)
        if gap is not None and gap.kind == "underfitting":
            gap = None  # the curve says it better
    return [each for each in (loss, gap) if each is not None]


def read_loss(loss: Array, update_ratio: float | None = None) -> Finding | None:
    """The shape of a loss by step: too slow, an early plateau, a plateau before the fall, a rise, or well.

    `update_ratio`, where it is known, tells a learning rate that is too high from a model that is too small.
    """
    if len(loss) < _LEAST or not np.isfinite(loss).all():
        return None
    curve = np.array([each.mean() for each in np.array_split(loss, min(_BINS, len(loss) // 3))])
    start, end, lowest = curve[0], curve[-3:].mean(), curve.min()
    fall = (start - end) / start if start > 0 else 0.0
    noise = float(np.median(np.abs(np.diff(curve)))) / start if start > 0 else 0.0
    told = f"The loss went from {loss[0]:.3g} to {end:.3g}"
    if end > 1.2 * start or end > 2 * lowest + 0.2 * start:
        return Finding(
            "loss_rises",
            f"{told}, after {lowest:.3g} at its lowest: it rises.",
            "The learning rate is too high: try one three to ten times lower, or a schedule that lowers it.",
        )
    start = min(start, loss[0])  # the very first steps may throw it up
    if (start - end) / start < max(0.03, noise / 2) and lowest > 0.9 * start:
        return Finding(
            "loss_flat",
            f"{told} in {len(loss)} steps: it hardly moves.",
            "Try a learning rate ten to a hundred times higher; if that changes nothing, look at the initialisation "
            "and at whether gradients reach every layer (fnn.train.sanity_check).",
        )
    waited = _waiting(curve)
    if waited >= 0.15 and fall > 0.3:
        return Finding(
            "plateau_then_drop",
            f"{told}, but stayed where it began for the first {waited:.0%} of the steps: that is a bad initialisation, "
            "out of which the network had to find first.",
            "Try He (relu) or Xavier (tanh, sigmoid) initialisation, a batch norm, or a warm-up.",
        )
    if fall < 0.6 and _straight(curve):
        return Finding(
            "lr_too_low",
            f"{told} along a nearly straight line: slow and steady, and far from its end.",
            "The learning rate is too low: try one three to ten times higher, or train for longer.",
        )
    settled = _settled(curve)
    if end < 0.35 * start:
        return Finding("loss_falls", f"{told}, as it should.")
    if settled > 0.6:
        return Finding(
            "unfinished",
            f"{told} and was still falling at the end.",
            "Train for longer, or try a higher learning rate.",
        )
    told = f"{told}, nearly all of it in the first {settled:.0%} of the steps, and then stays"
    if update_ratio is not None and update_ratio < _LARGE_STEPS:
        return Finding(
            "plateau",
            f"{told}, although the steps are small ({update_ratio:.1g} of the weights' norm).",
            "The model may be too small for the data, or the labels noisy: try a larger model first.",
        )
    return Finding(
        "lr_too_high",
        f"{told} on a plateau.",
        "The learning rate is probably too high: try one three to ten times lower, or a schedule that lowers it. "
        "If that changes nothing the model is too small.",
    )


def _straight(curve: Array) -> bool:
    """Does the second half fall about as fast as the first, along a line?"""
    x = np.linspace(-1, 1, len(curve))
    slope = (x @ curve) / (x @ x)
    if slope >= 0:
        return False
    rest = curve - curve.mean() - slope * x
    explained = 1 - (rest @ rest) / ((curve - curve.mean()) ** 2).sum()
    middle = len(curve) // 2
    first, second = (np.polyfit(x[part], curve[part], 1)[0] for part in (slice(middle), slice(middle, None)))
    return bool(explained > 0.85 and second < 0.5 * first)


def _waiting(curve: Array) -> float:
    """The share of the run during which the loss stayed where it began, before the bulk of the fall."""
    start, low = curve[0], curve.min()
    left = np.flatnonzero(curve < start - 0.1 * (start - low))
    return float(left[0]) / len(curve) if len(left) else 1.0


def _settled(curve: Array) -> float:
    """The share of the run after which nine tenths of the fall are done."""
    end = curve[-3:].mean()
    return float(np.flatnonzero(curve <= end + 0.1 * (curve[0] - end))[0] + 1) / len(curve)


def read_gap(epochs: dict[str, Array]) -> Finding | None:
    """Training beside validation: overfitting, or a model that is too small; None where there is nothing to say."""
    if "validation_loss" not in epochs or len(epochs["validation_loss"]) < 3:
        return None
    loss, other = epochs["loss"], epochs["validation_loss"]
    accuracy, validation = epochs["accuracy"], epochs["validation_accuracy"]
    best = int(np.argmin(other))
    rises = other[-1] > 1.1 * other[best] and best < len(other) - 2 and loss[-1] < loss[best]
    judged = bool(np.isfinite(accuracy[-1]) and np.isfinite(validation[-1]))
    gap = float(accuracy[-1] - validation[-1]) if judged else 0.0
    told = f"training {accuracy[-1]:.1%}, validation {validation[-1]:.1%}" if judged else ""
    more = "Try more data or augmentation, dropout, weight decay (L2), or early stopping"
    if gap > 0.08 or (rises and gap > 0.02) or (rises and not judged):
        since = f", and the validation loss rises since epoch {best + 1}" if rises else ""
        seen = f"The gap between training and validation is wide ({told}){since}" if judged else since[6:].capitalize()
        return Finding("overfitting", f"{seen}: the model overfits.", f"{more}; a smaller model is the last resort.")
    level = len(loss) >= 6 and loss[-1] > 0.97 * loss[-1 - len(loss) // 3]
    if judged and gap < 0.05 and accuracy[-1] < 0.9 and level:
        return Finding(
            "underfitting",
            f"There is no gap between training and validation ({told}), and the training loss no longer falls: the "
            "model is too small, or is held back.",
            "Try more or wider layers, less regularisation, or another learning rate.",
        )
    return None


def _pace(history: History) -> float | None:
    """The median ratio of update to weight over layers and looks, of the second half of the run."""
    ratios = [
        columns["update_ratio"][len(columns["update_ratio"]) // 2 :]
        for columns in history.layers.values()
        if "update_ratio" in columns
    ]
    joined = np.concatenate(ratios) if ratios else np.zeros(0)
    joined = joined[np.isfinite(joined)]
    return float(np.median(joined)) if len(joined) else None
