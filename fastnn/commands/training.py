"""What `fastnn train` does: a network, its data and a recipe, trained, tested, saved."""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import fastnn as fnn
from fastnn import data as data_
from fastnn import devices, nn
from fastnn.commands import datasets, options, store
from fastnn.commands.recipes import Recipe, recipe
from fastnn.data import Loader, Preprocessor
from fastnn.train import Callback, Evaluation, History, SanityReport, TrainingWarning, evaluate, fit, sanity_check
from fastnn.train.batches import leaves_one
from fastnn.train.named import OPTIMIZERS, SCHEDULES, check_name, optimizer, schedule
from fastnn.train.progress import epoch_line

Say = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Result:
    """What a run has come to."""

    history: History
    test: Evaluation
    seconds: float  # of training, validation included
    sentence: str

    @property
    def samples_per_second(self) -> float:
        """While training."""
        epochs = self.history.epochs
        spent = float(epochs["seconds"].sum()) if len(self.history) else 0.0
        return float(epochs["samples"].sum()) / spent if spent else math.nan


@dataclass(frozen=True, slots=True)
class Job:
    """A training run, ready."""

    data: datasets.Data
    recipe: Recipe
    about: dict[str, Any]  # the arguments of fnn.models.create
    seed: int
    model: nn.Module
    preprocess: Preprocessor
    loader: Loader
    validation: Loader | None
    test: Loader

    @property
    def criterion(self) -> Any:
        """The loss."""
        return nn.CrossEntropyLoss(label_smoothing=self.recipe.label_smoothing)

    def description(self) -> list[str]:
        """What is about to happen, in two lines."""
        data, plan = self.data, self.recipe
        size = sum(parameter.size for parameter in self.model.parameters())
        held = f", {len(data.validation):,} validation" if data.validation is not None else ""
        how = [f"{plan.optimizer} at {plan.lr:g}"]
        how += [f"momentum {plan.momentum:g}"] if plan.optimizer == "sgd" and plan.momentum else []
        how += [f"weight decay {plan.weight_decay:g}"] if plan.weight_decay else []
        how += [f"{plan.schedule} schedule" + (f", {plan.warmup:g} epochs of warm-up" if plan.warmup else "")]
        how += [f"label smoothing {plan.label_smoothing:g}"] if plan.label_smoothing else []
        how += ["augmentation"] if plan.augment else []
        return [
            f"{self.about['name']}, {size:,} parameters, on {data.name}: {len(data.train):,} training{held}, "
            f"{len(data.test):,} test samples",
            f"{plan.epochs} epochs of {len(self.loader):,} batches of {plan.batch_size}; {', '.join(how)}; "
            f"seed {self.seed}, {self._where()}",
        ]

    def _where(self) -> str:
        place = devices.place(self.model)
        return f"{fnn.get_num_threads()} threads" if place is None else f"device cuda:{place}"

    def check(self) -> SanityReport:
        """The lecture's checks."""
        return sanity_check(self.model, self.loader, loss=self.criterion)

    def train(self, args: argparse.Namespace, say: Say) -> Result:
        """Train and test."""
        plan = self.recipe
        algorithm = optimizer(plan.optimizer, self.model.parameters(), plan.lr, plan.momentum, plan.weight_decay)
        steps = plan.epochs * len(self.loader)
        terminal = on_terminal(args)
        started = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TrainingWarning)  # printed with the other findings
            history = fit(
                self.model,
                self.loader,
                validation=self.validation,
                loss=self.criterion,
                optimizer=algorithm,
                epochs=plan.epochs,
                scheduler=schedule(plan.schedule, algorithm, steps, round(plan.warmup * len(self.loader))),
                schedule="step",
                clip_grad_norm=args.clip_grad_norm,
                early_stopping=args.early_stopping,
                callbacks=() if terminal else (Lines(say),),
                checkpoint=args.checkpoint,
                resume=args.resume,
                seed=self.seed,
                progress=terminal,
            )
        seconds = time.perf_counter() - started
        if history.diverged:
            nothing = Evaluation(math.nan, math.nan, 0)
            return Result(history, nothing, seconds, f"The run went wrong: {history.stopped}")
        test = evaluate(self.model, self.test)
        sentence = f"Test accuracy: {100 * test.accuracy:.2f} % (loss {test.loss:.4f}) after {len(history)} epochs"
        return Result(history, test, seconds, f"{sentence}, {seconds:.1f} s.")

    def save(self, folder: Path, result: Result) -> list[Path]:
        """Write the model, the history and the plots; the paths."""
        history = result.history
        known: dict[str, Any] = {"model": self.about, "data": self.data.name, "seed": self.seed}
        known |= {"classes": list(self.data.train.classes) if self.data.train.classes else None}
        known |= {"training": asdict(self.recipe), "diverged": history.diverged}
        test = {"accuracy": result.test.accuracy, "loss": result.test.loss}
        known |= {"test": test if all(map(math.isfinite, test.values())) else {}}
        store.save(folder, self.model, self.preprocess, known)
        written = [folder / store.WEIGHTS, folder / store.ABOUT, folder / "history.json"]
        history.to_json(written[-1])
        with contextlib.suppress(ImportError, ValueError):  # without Matplotlib, or a step to draw
            written.append(history.plot(folder / "history.png", f"{self.about['name']} on {self.data.name}"))
            if self.data.input_shape == (2,) and not history.diverged:
                from fastnn.commands.regions import draw

                written.append(draw(self, folder / "regions.png", result))
        return written


def on_terminal(args: argparse.Namespace) -> bool:
    """Whether there is somebody to see a bar, which then shows epochs and findings too."""
    return sys.stderr is not None and sys.stderr.isatty() and not args.quiet


class Lines(Callback):
    """Print a line after each epoch, where there is no terminal for a bar."""

    def __init__(self, say: Say) -> None:
        self.say = say

    def on_epoch_end(self, trainer: Any) -> None:
        """See Callback."""
        done, total = len(trainer.history), trainer.epochs
        if total <= 20 or done in (1, total) or done % (total // 10) == 0:
            values = {name: float(column[-1]) for name, column in trainer.history.epochs.items()}
            self.say(epoch_line(trainer.epoch, trainer.epochs, values))


def prepare(args: argparse.Namespace) -> Job:
    """The run that the command line asks for; ValueError or TypeError where it makes no sense."""
    data = datasets.load(args.data, args.folder, args.validation, args.seed)
    plan = recipe(data.name, args.model, data.images)
    given = options.given_training(args)
    if given.get("optimizer", plan.optimizer) != plan.optimizer and "lr" not in given:
        given["lr"] = 0.1 if given["optimizer"] == "sgd" else 1e-3  # one optimiser's rate is nothing to another
    plan = replace(plan, **given)
    check_name("optimizer", plan.optimizer, OPTIMIZERS)
    check_name("schedule", plan.schedule, SCHEDULES)
    if "warmup" not in given:
        plan = replace(plan, warmup=min(plan.warmup, plan.epochs / 4))
    if plan.augment and not data.images:
        raise ValueError(f"--augment is for images; {data.name} has samples of shape {data.input_shape}")
    if plan.augment and data.input_shape[1] != data.input_shape[2]:
        raise ValueError(f"--augment is for square images; {data.name} has {data.input_shape}")
    about: dict[str, Any] = {"name": plan.model, "input_shape": list(data.input_shape), "classes": data.classes}
    about |= plan.options | options.given_model(args) | {"dtype": args.dtype}
    fnn.manual_seed(args.seed)
    model = options.moved(store.create(about), args.device)
    preprocess = data.fitted()
    dtype = np.dtype(args.dtype)
    transforms = [*augmentation(data, plan.augment), preprocess]
    drop = leaves_one(model, data.train, plan.batch_size)
    loader = Loader(data.train, plan.batch_size, seed=args.seed, transforms=transforms, drop_last=drop, dtype=dtype)

    def fixed(samples: Any) -> Loader:
        return Loader(samples, 256, shuffle=False, transforms=[preprocess], dtype=dtype)

    validation = None if data.validation is None else fixed(data.validation)
    return Job(data, plan, about, args.seed, model, preprocess, loader, validation, fixed(data.test))


def augmentation(data: datasets.Data, wanted: bool) -> list[Any]:
    """Crops, and flips where a mirrored image is still of its class, as a digit is not."""
    if not wanted:
        return []
    crop = data_.RandomCrop(data.input_shape[1], padding=4 if data.input_shape[1] >= 32 else 2)
    return [crop] if data.name == "mnist" else [crop, data_.RandomHorizontalFlip()]
