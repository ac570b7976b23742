"""The training loop."""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy.typing as npt

from fastnn import devices, random
from fastnn.arguments import flag, real_number
from fastnn.nn.losses import MSELoss
from fastnn.nn.module import Module
from fastnn.nn.random_layers import random_state, set_random_state
from fastnn.optim import Adam, Optimizer, clip_grad_norm_
from fastnn.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from fastnn.regularizers import Regularizer
from fastnn.train import diagnosis
from fastnn.train.answers import guessing_loss, right_answers
from fastnn.train.batches import as_batches, opened
from fastnn.train.callbacks import Callback, EarlyStopping
from fastnn.train.checkpoint import Checkpoints
from fastnn.train.curves import read_curves
from fastnn.train.evaluation import criterion_of, evaluate
from fastnn.train.findings import Finding, TrainingWarning
from fastnn.train.history import History
from fastnn.train.monitor import Monitor
from fastnn.train.options import checked, ordered_callbacks, positive
from fastnn.train.progress import Progress

__all__ = ["Trainer"]

Array = npt.NDArray[Any]
Schedule = LRScheduler | ReduceLROnPlateau
_MEMORY = 0.9  # of the running mean of the loss that is held against the start
_SUMS = ("loss", "right", "answers", "samples", "seconds")


class Trainer:
    """A training run: `Trainer(model, train, ...).run()`; `fnn.train.fit` is the same in one call and says what the
    arguments mean.

    While it runs callbacks find here: `model`, `optimizer`, `loader`, `epoch` (from 0), `batch` and `step` (batches
    done in this epoch, and in all), `loss` (of the last batch), `history`, and `stop(reason)`.
    """

    def __init__(
        self,
        model: Module,
        train: Any,
        *,
        validation: Any = None,
        loss: Any = None,
        optimizer: Optimizer | None = None,
        epochs: int = 10,
        batch_size: int = 128,
        scheduler: Schedule | None = None,
        schedule: str = "epoch",
        regularizer: Regularizer | None = None,
        clip_grad_norm: float | None = None,
        early_stopping: EarlyStopping | int | None = None,
        callbacks: Iterable[Callback] = (),
        checkpoint: Checkpoints | str | os.PathLike[str] | None = None,
        resume: bool = True,
        seed: int = 0,
        progress: bool = True,
        monitor: Monitor | int | bool | None = None,
        divergence: float = 3.0,
    ) -> None:
        if not isinstance(model, Module):
            raise TypeError(f"fit: model is of type {type(model).__name__}; expected an fnn.nn.Module")
        self.model = model
        self.epochs, self.batch_size = positive("epochs", epochs), positive("batch_size", batch_size)
        self.criterion = criterion_of("fit", loss)
        self.optimizer = Adam(model.parameters()) if optimizer is None else checked("optimizer", optimizer, Optimizer)
        self.scheduler = checked("scheduler", scheduler, LRScheduler, ReduceLROnPlateau)
        if scheduler is not None and scheduler.optimizer is not self.optimizer:
            raise ValueError("fit: scheduler is over another optimizer; expected the one that is given")
        if schedule not in ("epoch", "step"):
            raise ValueError(f"fit: schedule is {schedule!r}; expected 'epoch' or 'step'")
        self.schedule = schedule
        self.regularizer = checked("regularizer", regularizer, Regularizer)
        self.clip = None if clip_grad_norm is None else real_number("fit", "clip_grad_norm", clip_grad_norm, above=0.0)
        self.divergence = real_number("fit", "divergence", divergence, above=1.0, infinite=True)
        self.resume, self.wants_progress = flag("fit", "resume", resume), flag("fit", "progress", progress)
        self.checkpoints = checkpoint if isinstance(checkpoint, Checkpoints | None) else Checkpoints(checkpoint)
        self.loader = as_batches(train, model, batch_size=self.batch_size, shuffle=True, seed=seed)
        self.batch_size = int(getattr(self.loader, "batch_size", self.batch_size))
        if len(self.loader) == 0:
            raise ValueError("fit: train has no batches; expected one or more")
        self.validation = (
            None if validation is None else as_batches(validation, model, batch_size=self.batch_size, shuffle=False)
        )
        self.callbacks = ordered_callbacks(early_stopping, callbacks, monitor, self.epochs * len(self.loader))
        self.history = History()
        self.epoch = self.batch = self.step = 0
        self.loss = math.nan
        self.stopping = False
        self.initial_loss: float | None = None
        self._running, self._weight = 0.0, 0.0  # the running mean of the loss, and what it is divided by
        self._chance = 0.0  # the loss of guessing, where it is known
        self._sums: dict[str, Any] = dict.fromkeys(_SUMS, 0.0)  # "right" may be a number on a device
        learned = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        self._parameters = list(dict.fromkeys([*model.parameters(), *learned]))
        if len(self._parameters) == len(learned) + len(list(model.parameters())):
            raise ValueError("fit: optimizer has none of the model's parameters; expected one over model.parameters()")
        self._norms: dict[str, float] = {}
        self._place: int | None = None
        self._bar = Progress(False, 0, 0, 0)

    # The run

    def run(self) -> History:
        """Train from where a checkpoint has left off, or from the start, to the end."""
        modes = [(module, module.training) for module in self.model.modules()]
        needed = self.model.needs_input_grad
        self._load()
        self._norms = diagnosis.weight_norms(self.model)
        self._place = devices.place(self.model)
        try:
            total = self.epochs * len(self.loader) * self.batch_size
            self._bar = Progress(self.wants_progress, total, self.step * self.batch_size, self.epochs)
            self.model.needs_input_grad = False
            self.model.train()
            self._call("on_train_begin")
            while self.epoch < self.epochs and not self.stopping:
                self._run_epoch()
            self._conclude()
        finally:
            self._bar.close()
            for callback in self.callbacks:
                if isinstance(callback, Monitor):
                    callback.release()
            self.model.needs_input_grad = needed
            for module, training in modes:
                module.training = training
        return self.history

    def stop(self, reason: str) -> None:
        """End the run after this batch, or, from the end of an epoch, at once."""
        self.stopping = True
        self.history.stopped = reason

    def _run_epoch(self) -> None:
        if self.batch == 0:
            self._sums = dict.fromkeys(_SUMS, 0.0)
            self._call("on_epoch_begin")
        begin = time.perf_counter() - self._sums["seconds"]
        number = getattr(self.loader, "epoch", self.epoch)
        with opened(self.loader, number, self.batch, self._place) as batches:
            for x, y in batches:
                self._train_batch(x, y)
                self._sums["seconds"] = time.perf_counter() - begin
                if self.stopping:
                    break
                if self._due_in_epoch():
                    self._save()
        if self.history.diverged:
            return
        if self.batch < len(self.loader):  # stopped by a callback
            self._save()
            return
        self._end_epoch(number)

    def _end_epoch(self, number: int) -> None:
        sums = self._sums
        values = {
            "loss": sums["loss"] / sums["samples"] if sums["samples"] else math.nan,
            "accuracy": float(sums["right"]) / sums["answers"] if sums["answers"] else math.nan,
            "lr": self.optimizer.param_groups[0]["lr"],
            "samples": sums["samples"],
            "seconds": sums["seconds"],
            "last_step": float(self.step),
        }
        if self.validation is not None:
            found = evaluate(self.model, self.validation, self.criterion)
            values |= {"validation_loss": found.loss, "validation_accuracy": found.accuracy}
        self.history.record_epoch(values)
        self._bar.epoch(self.epoch, values)
        if self.scheduler is not None and self.schedule == "epoch":
            self._step_schedule(values.get("validation_loss", values["loss"]))
        self._call("on_epoch_end")
        self.epoch, self.batch = self.epoch + 1, 0
        if hasattr(self.loader, "epoch"):
            self.loader.epoch = number + 1
        checkpoints = self.checkpoints
        if checkpoints and (self.epoch % checkpoints.epochs == 0 or self.epoch == self.epochs or self.stopping):
            self._save()

    def _conclude(self) -> None:
        """The last callbacks, and what is to be said about the run."""
        self._call("on_train_end")
        self.history.findings += [*self._beginning(), *read_curves(self.history)]
        if self.history.diverged:
            warnings.warn(str(self.history.findings[0]), TrainingWarning, stacklevel=4)
        for finding in self.history.findings:
            self._bar.say(f"- {finding}")

    def _beginning(self) -> list[Finding]:
        """Was the first loss far above that of guessing?"""
        first, chance = self.initial_loss, self._chance
        if self.history.diverged or first is None or not chance or isinstance(self.criterion, MSELoss):
            return []
        if first < 1.5 * chance + 0.5:
            return []
        message = f"The first loss was {first:.3g}, where a model that guesses has {chance:.3g}."
        advice = "Try smaller initial weights, in the last layer above all, and inputs of zero mean and unit variance."
        return [Finding("initial_loss_high", message, advice, 0)]

    # A step

    def _train_batch(self, x: Array, y: Array) -> None:
        self._call("on_batch_begin")
        logits = self.model(x)
        self.loss = loss = float(self.criterion(logits, y))
        lr = self.optimizer.param_groups[0]["lr"]
        record = {"loss": loss, "lr": lr}
        if not self._sound(x, y, logits):
            self.history.record_step(record)
            return
        found = right_answers(self.criterion, logits, y)
        if found is not None:
            self._sums["right"] += found[0]
            self._sums["answers"] += found[1]
        for parameter in self._parameters:
            parameter.zero_grad()
        self.model.backward(self.criterion.backward())
        if self.regularizer is not None:
            record["penalty"] = self.regularizer.penalty(self._parameters)
        if self.clip is not None:
            record["grad_norm"] = norm = self._clipped()
            if not math.isfinite(norm):
                self.history.record_step(record)
                return
        self.optimizer.step()
        self.history.record_step(record)
        self._sums["loss"] += loss * len(x)
        self._sums["samples"] += len(x)
        self.batch, self.step = self.batch + 1, self.step + 1
        if self.scheduler is not None and self.schedule == "step":
            self._step_schedule(loss)
        self._call("on_batch_end")
        answers = self._sums["answers"]
        self._bar.batch(self.epoch, len(x), loss, self._sums["right"], answers)

    def _clipped(self) -> float:
        """The norm of all gradients before clipping; NaN, and the run is over, where it is not finite."""
        assert self.clip is not None
        try:
            return float(clip_grad_norm_(self._parameters, self.clip, error_if_nonfinite=True))
        except ValueError:
            where = diagnosis.nonfinite_gradient(self.model) or "Their squares add up to more than a float holds."
            self._diverge(
                "nonfinite", f"The gradients of step {self.step + 1} are not finite. {where}", diagnosis.LOWER
            )
            return math.nan

    def _sound(self, x: Array, y: Array, logits: Array) -> bool:
        """Is the loss a finite number, and not far above where it began? If not the run is over."""
        loss = self.loss
        if not math.isfinite(loss):
            where, advice = diagnosis.first_nonfinite(self.model, x, y, logits)
            self._diverge("nonfinite", f"The loss of step {self.step + 1} is {loss}. {where}", advice)
            return False
        if self.initial_loss is None:
            self.initial_loss = loss
            guess = guessing_loss(self.criterion, logits, y)
            self._chance = 0.0 if guess is None else guess[0]
        self._running = _MEMORY * self._running + (1 - _MEMORY) * loss
        self._weight = _MEMORY * self._weight + (1 - _MEMORY)
        mean = self._running / self._weight
        floor = max(self.initial_loss, self._chance)
        if mean > self.divergence * floor > 0:
            seen = (
                f"The loss has risen to {mean:.4g} by step {self.step + 1}, more than {self.divergence:g} times the "
                f"{floor:.4g} of the start."
            )
            self._diverge("diverged", f"{seen} {diagnosis.grown(self.model, self._norms)}".strip(), diagnosis.LOWER)
            return False
        return True

    def _diverge(self, kind: str, message: str, advice: str) -> None:
        self.history.findings.insert(0, Finding(kind, message, advice, self.step))
        self.history.diverged = True
        self.stop(message)

    def _step_schedule(self, metric: float) -> None:
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(metric)
        elif self.scheduler is not None:
            self.scheduler.step()

    def _call(self, mark: str) -> None:
        """The callbacks that have something to do at this mark."""
        for callback in self.callbacks:
            if getattr(type(callback), mark) is not getattr(Callback, mark):
                getattr(callback, mark)(self)

    # Saving and going on

    def _due_in_epoch(self) -> bool:
        """Is a checkpoint due in the middle of an epoch? At its end another is written anyway."""
        steps = None if self.checkpoints is None else self.checkpoints.steps
        return steps is not None and self.step % steps == 0 and self.batch < len(self.loader)

    def _save(self) -> None:
        if self.checkpoints is not None:
            self.checkpoints.save(self.model.state_dict(), self.state_dict())

    def _load(self) -> None:
        if self.checkpoints is not None:
            self.checkpoints.prepare()
        found = self.checkpoints.load() if self.checkpoints is not None and self.resume else None
        if found is not None:
            weights, state = found
            before = {name: array.copy() for name, array in self.model.state_dict().items()}
            options = self.optimizer.state_dict()
            try:
                self.load_state_dict(weights, state)
            except (KeyError, ValueError, TypeError) as error:
                assert self.checkpoints is not None
                self.model.load_state_dict(before)
                self.optimizer.load_state_dict(options)
                raise ValueError(
                    f"fit: the checkpoint in {self.checkpoints.folder} is not of this run: {error}. "
                    "resume=False begins anew, another folder keeps both"
                ) from error

    def state_dict(self) -> dict[str, Any]:
        """Everything but the model's weights that the run depends on from here."""
        return {
            "optimizer": {"kind": type(self.optimizer).__name__, **self.optimizer.state_dict()},
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "loader": {"epoch": getattr(self.loader, "epoch", None), **self._identity()},
            "position": {"epoch": self.epoch, "batch": self.batch, "step": self.step},
            "sums": {name: float(value) for name, value in self._sums.items()},
            "start": {
                "loss": self.initial_loss,
                "chance": self._chance,
                "running": self._running,
                "weight": self._weight,
            },
            "random": {"layers": random_state(self.model), "generator": random.default_rng().bit_generator.state},
            "callbacks": [[type(each).__name__, each.state_dict()] for each in self.callbacks],
            "history": self.history.as_dict(),
        }

    def _identity(self) -> dict[str, Any]:
        """What the loader must have in common with the one of a checkpoint."""
        known = dict(getattr(self.loader, "state", {}))
        return {"batches": len(self.loader)} | {name: known[name] for name in known if name not in ("epoch", "batch")}

    def load_state_dict(self, weights: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` has returned, and from the model's arrays."""
        kinds = [kind for kind, _ in state["callbacks"]]
        own = [type(each).__name__ for each in self.callbacks]
        for name, found, expected in [
            ("optimizer", state["optimizer"]["kind"], type(self.optimizer).__name__),
            *((f"{name} of train", state["loader"].get(name), value) for name, value in self._identity().items()),
            ("callbacks", kinds, own),
            ("scheduler", state["scheduler"] is not None, self.scheduler is not None),
        ]:
            if found != expected:
                raise ValueError(f"{name} was {found}; now it is {expected}")
        self.history = History.from_dict(state["history"])
        self.history.stopped = None
        self.model.load_state_dict(weights)
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        set_random_state(self.model, state["random"]["layers"])
        random.default_rng().bit_generator.state = state["random"]["generator"]
        for callback, (_, values) in zip(self.callbacks, state["callbacks"], strict=True):
            callback.load_state_dict(values)
        self.epoch, self.batch, self.step = (int(state["position"][name]) for name in ("epoch", "batch", "step"))
        if hasattr(self.loader, "epoch") and state["loader"]["epoch"] is not None:
            self.loader.epoch = int(state["loader"]["epoch"])
        self._sums = {name: float(state["sums"][name]) for name in _SUMS}
        start = state["start"]
        self.initial_loss, self._chance = start["loss"], float(start["chance"])
        self._running, self._weight = float(start["running"]), float(start["weight"])
