"""Checks before the first long run, from the lecture: is the loss what it must be, and can the model learn at all?"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn import devices
from fastnn.arguments import whole_number
from fastnn.arrays import host
from fastnn.nn.losses import CrossEntropyLoss, MSELoss
from fastnn.nn.module import Module, no_grad
from fastnn.nn.random_layers import random_layers
from fastnn.optim import SGD, Adam, Optimizer
from fastnn.regularizers import L2, Regularizer
from fastnn.train.answers import guessing_loss, right_answers
from fastnn.train.batches import as_batches, opened
from fastnn.train.evaluation import criterion_of

__all__ = ["Check", "SanityReport", "sanity_check"]

Array = npt.NDArray[Any]
_RATES = (1e-3, 1e-2, 1e-4)  # tried in turn to overfit
_SMALL_STEPS = 20


@dataclass(frozen=True)
class Check:
    """One check: its name, whether it passed (None: it does not apply), what was seen, what to try."""

    name: str
    passed: bool | None
    message: str
    advice: str = ""

    def __str__(self) -> str:
        """A line or two."""
        mark = {True: "ok  ", False: "FAIL", None: "-   "}[self.passed]
        return f"{mark}  {self.name}: {self.message}" + (f"\n      {self.advice}" if self.advice else "")


@dataclass(frozen=True)
class SanityReport:
    """What `sanity_check` has found; `print(report)` shows it, `report.ok` says whether nothing failed."""

    checks: list[Check]
    numbers: dict[str, float] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return all(check.passed is not False for check in self.checks)

    def __getitem__(self, name: str) -> Check:
        """A check by its name."""
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(f"{name!r}: the checks are {', '.join(check.name for check in self.checks)}")

    def __str__(self) -> str:
        """All checks, then the sum."""
        failed = sum(check.passed is False for check in self.checks)
        verdict = "All is as it should be." if not failed else f"{failed} of {len(self.checks)} checks failed."
        return "\n".join([*map(str, self.checks), verdict])


def sanity_check(
    model: Module,
    data: Any,
    *,
    loss: Any = None,
    regularizer: Regularizer | None = None,
    samples: int = 20,
    steps: int = 300,
) -> SanityReport:
    """The lecture's checks of a model that is not trained yet, in seconds, on the first samples of `data`.

    "initial loss": cross-entropy must begin at -ln(1/C) for C classes, a hinge loss at C - 1. "regularisation": a
    penalty (`regularizer`, else L2(1e-3)) must raise the loss, and pull every weight. "overfits a tiny set": `samples`
    samples must be learned to a loss near 0 and accuracy 1 within `steps` steps of Adam, without penalty and dropout.
    "small learning rate": `_SMALL_STEPS` steps of SGD at 1e-6 must hardly move the loss. "gradients": every parameter
    must get a gradient that is not all 0.

    `data` is a loader, data set or pair (x, y). Everything happens on copies: model, optimiser, loader and random state
    are left as they were. `loss` is `CrossEntropyLoss()` unless another is given. Source: lecture 6 of CS231n (2017).
    """
    samples, steps = whole_number("sanity_check", "samples", samples), whole_number("sanity_check", "steps", steps)
    for name, value in (("samples", samples), ("steps", steps)):
        if value < 1:
            raise ValueError(f"sanity_check: {name} is {value}; expected 1 or more")
    criterion = copy.deepcopy(criterion_of("sanity_check", loss))
    place = devices.place(model)
    with devices.current(place):
        x, y = map(devices.mover(place), _first(data, model, max(samples, 256)))
        checker = _Checker(model, criterion, x, y)
        numbers: dict[str, float] = {}
        checks = [
            checker.initial_loss(numbers),
            checker.regularisation(regularizer or L2(1e-3), numbers),
            checker.gradients(),
            checker.overfits(min(samples, len(x)), steps, numbers),
            checker.small_rate(min(samples, len(x)), numbers),
        ]
    return SanityReport(checks, numbers)


def _first(data: Any, model: Module, count: int) -> tuple[Array, Array]:
    """The first samples that training would see, of their first epoch; a loader stays where it is."""
    loader = as_batches(data, model, batch_size=min(count, 128), shuffle=True)
    xs, ys, got = [], [], 0
    with opened(loader, 0) as batches:
        for x, y in islice(batches, len(loader)):
            xs.append(np.array(host(x), copy=True))
            ys.append(np.array(host(y), copy=True))
            got += len(x)
            if got >= count:
                break
    if not got:
        raise ValueError("sanity_check: data is empty; expected one sample or more")
    return np.concatenate(xs)[:count], np.concatenate(ys)[:count]


class _Checker:
    """The checks, each on a copy of its own."""

    def __init__(self, model: Module, criterion: Any, x: Array, y: Array) -> None:
        self.model, self.criterion, self.x, self.y = model, criterion, x, y
        if isinstance(criterion, CrossEntropyLoss):
            criterion.label_smoothing = 0.0  # with it no loss gets to 0

    def _twin(self) -> Module:
        """A copy in training mode, whose random layers are at rest."""
        twin = copy.deepcopy(self.model)
        twin.train()
        for _, layer in random_layers(twin):
            layer.training = False
        twin.needs_input_grad = False
        return twin

    def _loss(self, model: Module, x: Array, y: Array) -> tuple[float, float, Array]:
        with no_grad():
            logits = model(x).copy()
            value = float(self.criterion(logits, y))
        return value, _accuracy(self.criterion, logits, y), logits

    def initial_loss(self, numbers: dict[str, float]) -> Check:
        name = "initial loss"
        value, _, logits = self._loss(self._twin(), self.x, self.y)
        numbers["initial_loss"] = value
        if not math.isfinite(value):
            advice = "Look at the inputs, and at the scale of the initial weights."
            return Check(name, False, f"it is {value}.", advice)
        guess = guessing_loss(self.criterion, logits, self.y)
        if guess is None or isinstance(self.criterion, MSELoss):  # targets need not be centred
            kind = type(self.criterion).__name__
            return Check(name, None, f"it is {value:.4g}; what it should be is not known for {kind}.")
        expected, formula = guess
        numbers["expected_loss"] = expected
        told = f"{value:.4g} where {formula} = {expected:.4g} is expected"
        if abs(value - expected) <= 0.25 * expected:
            return Check(name, True, f"{told}.")
        spread = float(logits.std())
        if value > expected:
            advice = (
                f"The outputs have a standard deviation of {spread:.2g}: try smaller initial weights in the last "
                "layer, inputs of zero mean and unit variance, and look at the labels."
            )
        else:
            advice = "The model knows something already: is it trained, or do the inputs hold the labels?"
        return Check(name, False, f"{told}.", advice)

    def regularisation(self, regularizer: Regularizer, numbers: dict[str, float]) -> Check:
        name = "regularisation"
        twin = self._twin()
        value = numbers["initial_loss"]
        penalty = regularizer.penalty(list(twin.parameters()))
        numbers["penalty"] = penalty
        if not penalty > 0:
            return Check(
                name,
                False,
                f"{regularizer!r} adds {penalty:.3g}: there are no weights that it holds for, or they are all 0.",
                "Penalties hold for parameters of two dimensions or more; are the weights of the layers Parameters?",
            )
        return Check(name, True, f"{regularizer!r} raises the loss from {value:.4g} to {value + penalty:.4g}.")

    def gradients(self) -> Check:
        name, twin = "gradients", self._twin()
        _descend(twin, self.criterion, self.x, self.y)
        learned = [(key, each) for key, each in twin.named_parameters() if each.requires_grad]
        missing = [key for key, each in learned if each.grad is None]
        bad = [key for key, each in learned if each.grad is not None and not np.isfinite(each.grad).all()]
        zero = [key for key, each in learned if each.grad is not None and not each.grad.any()]
        if missing or bad:
            what = f"{_some(missing)} got none" if missing else f"{_some(bad)} got one that is not finite"
            return Check(name, False, f"{what}.", "Does backward fill the gradients of all that forward uses?")
        if zero and len(zero) == len(learned):
            return Check(name, False, "all are 0.", "Is the network dead, or initialised with zeros throughout?")
        if zero:
            told = f"{_some(zero)} got nothing but 0."
            return Check(name, False, told, "Is the layer after it dead, saturated, or initialised with zeros?")
        return Check(name, True, f"all {len(learned)} parameters get one.")

    def overfits(self, count: int, steps: int, numbers: dict[str, float]) -> Check:
        name, x, y = "overfits a tiny set", self.x[:count], self.y[:count]
        best = (math.inf, 0.0, 0.0)
        floor = _entropy(y) if isinstance(self.criterion, CrossEntropyLoss) else 0.0
        for lr in _RATES:
            twin = self._twin()
            optimizer = Adam(twin.parameters(), lr)
            for step in range(steps):
                value, right = _step(twin, self.criterion, optimizer, x, y)
                value -= floor
                if not math.isfinite(value):
                    break
                if value < best[0]:
                    best = (value, right, lr)
                if value < 0.01 and not right < 1:
                    numbers |= {"overfit_loss": value, "overfit_accuracy": right}
                    reached = f"loss {value:.2g}" + ("" if math.isnan(right) else f", accuracy {right:.0%}")
                    return Check(name, True, f"{reached} on {count} samples after {step + 1} steps at lr {lr:g}.")
        value, right, lr = best
        numbers |= {"overfit_loss": value, "overfit_accuracy": right}
        accuracy = "" if math.isnan(right) else f" and accuracy {right:.0%}"
        told = f"no: loss {value:.3g}{accuracy} is the best on {count} samples in {steps} steps (lr {lr:g})."
        if value < 0.1 and not right < 1:
            return Check(name, True, f"nearly: loss {value:.3g}{accuracy} on {count} samples after {steps} steps.")
        advice = (
            "Something is wrong with model, loss or data, and no hyper-parameter helps: check backward with "
            "fnn.gradcheck, look for dead or saturated layers, and for equal samples with different labels."
        )
        return Check(name, False, told, advice)

    def small_rate(self, count: int, numbers: dict[str, float]) -> Check:
        name, x, y = "small learning rate", self.x[:count], self.y[:count]
        twin = self._twin()
        optimizer = SGD(twin.parameters(), 1e-6)
        first, before = _step(twin, self.criterion, optimizer, x, y)
        for _ in range(_SMALL_STEPS):
            last, after = _step(twin, self.criterion, optimizer, x, y)
        numbers["small_rate_change"] = (last - first) / first if first else 0.0
        moved = abs(last - first) / max(abs(first), 1e-12)
        told = f"{_SMALL_STEPS} steps of SGD at 1e-6 move the loss by {moved:.2%}"
        told += "" if math.isnan(after) else f", the accuracy from {before:.0%} to {after:.0%}"
        if moved < 0.02:
            return Check(name, True, f"{told}.")
        advice = "The gradients are very large: scale the inputs to unit variance and look at the initial weights."
        return Check(name, False, f"{told}.", advice)


def _descend(model: Module, criterion: Any, x: Array, y: Array) -> tuple[float, float]:
    """Loss, accuracy and gradients."""
    logits = model(x)
    value = float(criterion(logits, y))
    right = _accuracy(criterion, logits, y)
    model.zero_grad()
    model.backward(criterion.backward())
    return value, right


def _accuracy(criterion: Any, scores: Array, labels: Array) -> float:
    found = right_answers(criterion, scores, labels)
    return math.nan if found is None else float(found[0]) / found[1]


def _step(model: Module, criterion: Any, optimizer: Optimizer, x: Array, y: Array) -> tuple[float, float]:
    told = _descend(model, criterion, x, y)
    optimizer.step()
    return told


def _entropy(labels: Array) -> float:
    """The least cross-entropy beside labels that are probabilities, as mixup makes them; 0 beside classes."""
    if labels.dtype.kind in "iu":
        return 0.0
    each = host(labels, np.float64)
    return float(-(each * np.log(np.where(each > 0, each, 1.0))).sum() / len(each))


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
