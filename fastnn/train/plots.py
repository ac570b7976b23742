"""The pictures of a run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.optional import need

if TYPE_CHECKING:
    from fastnn.train.history import Array, History

_TRAIN, _VALIDATION, _FAINT = "#1f5fa8", "#d1622b", "#9db9d9"


def plot(history: History, path: str | os.PathLike[str], title: str = "") -> Path:
    """Loss by step with the epochs' means, accuracy by epoch, learning rate by step; as wide as there are panels."""
    figure_of = need("matplotlib.figure", "drawing a history", "train").Figure
    steps, epochs = history.steps, history.epochs
    if not steps or not len(steps["loss"]):
        raise ValueError("History.plot: there are no steps to draw")
    accuracy = {name: epochs[name] for name in ("accuracy", "validation_accuracy") if name in epochs}
    panels = [_loss, _accuracy, _rate] if any(np.isfinite(each).any() for each in accuracy.values()) else [_loss, _rate]
    figure = figure_of(figsize=(4.6 * len(panels), 3.8), layout="constrained")
    ends = _ends(history)
    for axes, draw in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        draw(axes, steps, epochs, ends)
        axes.grid(alpha=0.25)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    heading = "\n".join(
        filter(None, [title, f"Stopped: {_first_sentence(history.stopped)}" if history.stopped else ""])
    )
    if heading:
        figure.suptitle(heading, fontsize=11)
    where = Path(path)
    figure.savefig(where, dpi=130)
    return where


def _ends(history: History) -> Array:
    """The step at which each epoch ended."""
    return np.asarray(history.epochs.get("last_step", np.zeros(0)))


def _loss(axes: Any, steps: dict[str, Array], epochs: dict[str, Array], ends: Array) -> None:
    loss = steps["loss"]
    axes.plot(np.arange(1, len(loss) + 1), loss, color=_FAINT, linewidth=0.8, label="training, each step")
    if len(ends):
        axes.plot(ends, epochs["loss"], color=_TRAIN, marker="o", markersize=3, label="training, mean of epoch")
        if "validation_loss" in epochs:
            axes.plot(ends, epochs["validation_loss"], color=_VALIDATION, marker="o", markersize=3, label="validation")
    finite = loss[np.isfinite(loss)]
    if len(finite) and finite.min() > 0 and finite.max() > 30 * np.median(finite):
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0 if not len(finite) or finite.min() >= 0 else None)
    axes.set(xlabel="step", ylabel="loss", title="Loss")
    axes.legend(frameon=False, fontsize=8)


def _accuracy(axes: Any, steps: dict[str, Array], epochs: dict[str, Array], ends: Array) -> None:
    number = np.arange(1, len(epochs["accuracy"]) + 1)
    axes.plot(number, 100 * epochs["accuracy"], color=_TRAIN, marker="o", markersize=3, label="training")
    if "validation_accuracy" in epochs:
        validation = 100 * epochs["validation_accuracy"]
        axes.plot(number, validation, color=_VALIDATION, marker="o", markersize=3, label="validation")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="epoch", ylabel="accuracy, %", title="Accuracy")
    axes.legend(frameon=False, fontsize=8, loc="lower right")


def _rate(axes: Any, steps: dict[str, Array], epochs: dict[str, Array], ends: Array) -> None:
    rate = steps["lr"]
    axes.plot(np.arange(1, len(rate) + 1), rate, color=_TRAIN)
    if rate.min() > 0 and rate.max() > 30 * rate.min():
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, 1.08 * rate.max() or 1)
    axes.set(xlabel="step", ylabel="learning rate", title="Learning rate")


def _first_sentence(text: str) -> str:
    return text.partition(". ")[0].rstrip(".") + "."
