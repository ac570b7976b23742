"""What may be done at the marks of a training run, and stopping it when nothing gets better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastnn.arguments import flag, real_number, whole_number

if TYPE_CHECKING:
    from fastnn.train.trainer import Trainer

__all__ = ["Callback", "EarlyStopping"]


class Callback:
    """The base of callbacks: override what you need; `trainer` has `model`, `optimizer`, `epoch`, `step`, `loss`,
    `history` and `stop(reason)`.

    What a callback must remember over an interruption it returns from `state_dict` (numbers, strings, lists, dicts
    and arrays) and takes back in `load_state_dict`.
    """

    def on_train_begin(self, trainer: Trainer) -> None:
        """Before the first step, after a checkpoint has been loaded."""

    def on_epoch_begin(self, trainer: Trainer) -> None:
        """Before the first batch of `trainer.epoch`."""

    def on_batch_begin(self, trainer: Trainer) -> None:
        """Before the forward pass of `trainer.step`."""

    def on_batch_end(self, trainer: Trainer) -> None:
        """After the optimiser's step; `trainer.loss` is the batch's."""

    def on_epoch_end(self, trainer: Trainer) -> None:
        """After validation; the epoch is the last in `trainer.history.epochs`."""

    def on_train_end(self, trainer: Trainer) -> None:
        """After the last step, also when the run was stopped."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take back what `state_dict` has returned."""


class EarlyStopping(Callback):
    """End the run when `metric` has not become better by more than `min_delta` for `patience` epochs.

    `metric` is a column of `history.epochs`: "validation_loss" unless another is named, the training loss where there
    is no validation; one whose name ends in "accuracy" is better when higher. With `restore_best` the model has, after
    the run, the weights and buffers of the best epoch, whether it was stopped or not.
    """

    def __init__(
        self, patience: int = 5, min_delta: float = 0.0, restore_best: bool = True, metric: str | None = None
    ) -> None:
        self.patience = whole_number("EarlyStopping", "patience", patience)
        if self.patience < 1:
            raise ValueError(f"EarlyStopping: patience is {patience}; expected 1 or more epochs")
        self.min_delta = real_number("EarlyStopping", "min_delta", min_delta, low=0.0)
        self.restore_best = flag("EarlyStopping", "restore_best", restore_best)
        self.metric = metric
        self._begin()

    def _begin(self) -> None:
        self.best = math.inf  # of the metric, or of its negative where higher is better
        self.waited = 0
        self.weights: dict[str, Any] = {}

    def on_train_begin(self, trainer: Trainer) -> None:
        if trainer.step == 0:
            self._begin()
        self._judge(trainer)  # a checkpoint may be that of a run which was stopped here

    def on_epoch_end(self, trainer: Trainer) -> None:
        epochs = trainer.history.epochs
        name = self._name(trainer)
        if name not in epochs:
            raise ValueError(f"EarlyStopping: metric is {name!r}; expected one of {', '.join(epochs)}")
        value = float(epochs[name][-1]) * (-1 if name.endswith("accuracy") else 1)
        if value < self.best - (self.min_delta if math.isfinite(self.best) else 0):
            self.best, self.waited = value, 0
            trainer.history.best_epoch = trainer.epoch
            if self.restore_best:
                self.weights = {key: array.copy() for key, array in trainer.model.state_dict().items()}
            return
        self.waited += 1
        self._judge(trainer)

    def _name(self, trainer: Trainer) -> str:
        return self.metric or ("loss" if trainer.validation is None else "validation_loss")

    def _judge(self, trainer: Trainer) -> None:
        if self.waited >= self.patience:
            best = trainer.history.best_epoch
            since = f"since epoch {best + 1}" if best is not None else "at all"
            what = self._name(trainer).replace("_", " ")
            trainer.stop(f"The {what} has not become better {since}, that is for {self.waited} epochs.")

    def on_train_end(self, trainer: Trainer) -> None:
        if self.weights:
            trainer.model.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited, "weights": self.weights}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.best, self.waited = float(state_dict["best"]), int(state_dict["waited"])
        self.weights = dict(state_dict["weights"])
