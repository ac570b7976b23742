"""What `fastnn search` runs: a trial finds its data by name, wherever it runs, so that no data travel."""

from __future__ import annotations

import argparse
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastnn.commands import datasets, options, store, training
from fastnn.commands.recipes import recipe
from fastnn.train.named import OPTIMIZERS, SCHEDULES, check_name
from fastnn.train.search.fitting import TRAINING, Training
from fastnn.train.search.trial import Trial


@dataclass(frozen=True)
class Job:
    """Train a network of the zoo on data that are found by name."""

    data: str
    folder: Path | None
    validation: float
    seed: int
    samples: int | None
    about: dict[str, Any]  # the arguments of fnn.models.create
    augment: bool
    settings: dict[str, Any]
    epochs: int
    measure: str

    def __call__(self, trial: Trial) -> float:
        """See `fastnn.train.search.fitting.Training`."""
        found, fixed = _data(self.data, self.folder, self.validation, self.seed, self.samples)
        train = Training(
            functools.partial(_model, self.about),
            found.train,
            found.validation,
            self.settings,
            self.epochs,
            self.measure,
            tuple(training.augmentation(found, self.augment)),
            (fixed,),
        )
        return train(trial)


def _model(about: dict[str, Any], **drawn: Any) -> Any:
    return store.create(about | drawn)


@functools.lru_cache(maxsize=1)
def _data(
    name: str, folder: Path | None, validation: float, seed: int, samples: int | None
) -> tuple[datasets.Data, Any]:
    """Read once in a process."""
    found = datasets.load(name, folder, validation, seed)
    if samples is not None and samples < len(found.train):
        chosen = np.sort(np.random.default_rng(seed).permutation(len(found.train))[:samples])
        found = datasets.Data(name, found.train.subset(chosen), found.validation, found.test)
    return found, found.fitted()


def job(args: argparse.Namespace, space: dict[str, Any]) -> tuple[Job, int]:
    """The objective that the command line asks for, tried on a model first; and its epochs."""
    found, _ = _data(args.data, args.folder, args.validation, args.seed, args.samples)
    plan = recipe(found.name, args.model, found.images)
    epochs = args.epochs or max(1, round(plan.epochs / 10))
    settings = {name: getattr(plan, name) for name in TRAINING} | {"warmup": min(plan.warmup, epochs / 4)}
    given = options.given_training(args)
    augment = bool(given.pop("augment", plan.augment))
    given.pop("epochs", None)
    settings |= given
    check_name("optimizer", settings["optimizer"], OPTIMIZERS)
    check_name("schedule", settings["schedule"], SCHEDULES)
    about: dict[str, Any] = {"name": plan.model, "input_shape": list(found.input_shape), "classes": found.classes}
    about |= plan.options | options.given_model(args)
    layout = {name: each.points(1)[0] for name, each in space.items() if name not in TRAINING}
    _model(about, **layout)  # a wrong name is an error here, not in every trial
    made = Job(
        args.data, args.folder, args.validation, args.seed, args.samples, about, augment, settings, epochs, args.measure
    )
    return made, epochs
