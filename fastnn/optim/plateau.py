"""A learning rate that falls when nothing gets better any more."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fastnn.arguments import real_number, whole_number
from fastnn.optim.optimizer import Optimizer

_STATE = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")


class ReduceLROnPlateau:
    """Multiply the rates by `factor` when `step(metrics)` has seen no improvement for more than `patience` calls.

    An improvement is metrics below best (1 - threshold) with mode "min" and threshold_mode "rel", below
    best - threshold with "abs", and the other way round with "max". After a cut `cooldown` calls are not counted. A
    rate never falls below `min_lr`, and a change by less than `eps` is not made. Names, arguments and values are those
    of `torch.optim.lr_scheduler.ReduceLROnPlateau`. In `fnn.train.fit` metrics is the validation loss, or the training
    loss where there is no validation.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        title = "ReduceLROnPlateau"
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"{title}: optimizer is of type {type(optimizer).__name__}; expected an fnn.optim.Optimizer"
            )
        for name, value, known in (("mode", mode, ("min", "max")), ("threshold_mode", threshold_mode, ("rel", "abs"))):
            if value not in known:
                raise ValueError(f"{title}: {name} is {value!r}; expected {known[0]!r} or {known[1]!r}")
        self.optimizer, self.mode, self.threshold_mode = optimizer, mode, threshold_mode
        self.factor = real_number(title, "factor", factor, low=0.0, below=1.0)
        self.patience = whole_number(title, "patience", patience)
        self.threshold = real_number(title, "threshold", threshold, low=0.0)
        self.cooldown = whole_number(title, "cooldown", cooldown)
        self.min_lr = real_number(title, "min_lr", min_lr, low=0.0)
        self.eps = real_number(title, "eps", eps, low=0.0)
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = self.cooldown_counter = self.last_epoch = 0

    def step(self, metrics: float) -> None:
        """Look at the newest value."""
        value = float(metrics)
        self.last_epoch += 1
        if self._better(value):
            self.best, self.num_bad_epochs = value, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            for group in self.optimizer.param_groups:
                lr = max(group["lr"] * self.factor, self.min_lr)
                if group["lr"] - lr > self.eps:
                    group["lr"] = lr
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0

    def _better(self, value: float) -> bool:
        sign = 1.0 if self.mode == "min" else -1.0
        if self.threshold_mode == "rel" and math.isfinite(self.best):
            return sign * value < sign * self.best * (1 - sign * self.threshold)
        return sign * value < sign * self.best - (self.threshold if math.isfinite(self.best) else 0.0)

    def get_last_lr(self) -> list[float]:
        """The rate of each group as it is."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """What has been seen; the rates are saved with the optimiser."""
        return {name: getattr(self, name) for name in _STATE}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        missing = [name for name in _STATE if name not in state_dict]
        if missing:
            raise ValueError(f"ReduceLROnPlateau.load_state_dict: state_dict has no {missing[0]!r}")
        for name in _STATE:
            setattr(self, name, state_dict[name])
