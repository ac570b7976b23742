"""The objective that trains a model: what `search((model, data), space)` runs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastnn.train.search.trial import Trial

TRAINING = ("lr", "momentum", "weight_decay", "batch_size", "optimizer", "schedule", "warmup", "label_smoothing")
MEASURES = ("loss", "accuracy")
HELD_OUT = 0.1  # of the data, where no validation set is given


@dataclass(frozen=True)
class Training:
    """Train a model with a trial's hyper-parameters; the value is the validation loss, or accuracy."""

    model: str | Callable[..., Any]
    train: Any
    validation: Any
    settings: Mapping[str, Any]
    epochs: int = 3
    measure: str = "loss"
    transforms: tuple[Any, ...] = ()  # of the training set; `preprocess` is applied to both
    preprocess: tuple[Any, ...] = ()

    @classmethod
    def of(cls, pair: tuple[Any, ...], training: Mapping[str, Any]) -> Training:
        """(model, data) and options, checked."""
        if len(pair) != 2:
            raise TypeError(f"search: objective is a tuple of {len(pair)}; expected a function or (model, data)")
        model, data = pair
        if not callable(model) and not isinstance(model, str):
            raise TypeError(
                f"search: model is a {type(model).__name__}; expected a name of the zoo, or a function of "
                "hyper-parameters that returns a module"
            )
        own = {name: value for name, value in training.items() if name in ("epochs", "measure")}
        own |= {name: tuple(training[name]) for name in ("transforms", "preprocess") if name in training}
        settings = {name: value for name, value in training.items() if name not in own}
        strange = [name for name in settings if name not in TRAINING]
        if strange:
            raise TypeError(
                f"search: unknown training option {', '.join(strange)}; expected epochs, measure, transforms, "
                f"preprocess, {', '.join(TRAINING)}"
            )
        job = cls(model, *_halves(data), settings, **own)
        if job.measure not in MEASURES:
            raise ValueError(f"search: measure is {job.measure!r}; expected 'loss' or 'accuracy'")
        if isinstance(job.epochs, bool) or not isinstance(job.epochs, int) or job.epochs < 1:
            raise ValueError(f"search: epochs is {job.epochs!r}; expected an integer, at least 1")
        return job

    def __call__(self, trial: Trial) -> float:
        """Train for `epochs` epochs, reporting after each."""
        import fastnn as fnn
        from fastnn.train import Callback, TrainingWarning, fit
        from fastnn.train.batches import leaves_one
        from fastnn.train.named import optimizer, schedule

        chosen: dict[str, Any] = {"lr": 0.01, "optimizer": "sgd", "batch_size": 128, "schedule": "cosine", "warmup": 0}
        chosen |= self.settings
        chosen |= {name: value for name, value in trial.parameters.items() if name in TRAINING}
        layout = {name: value for name, value in trial.parameters.items() if name not in TRAINING}
        fnn.manual_seed(trial.seed)
        model = fnn.models.create(self.model, **layout) if isinstance(self.model, str) else self.model(**layout)
        fixed = self.preprocess
        train = fnn.data.Loader(
            self.train,
            chosen["batch_size"],
            seed=trial.seed,
            transforms=(*self.transforms, *fixed),
            drop_last=leaves_one(model, self.train, chosen["batch_size"]),
        )
        held = fnn.data.Loader(self.validation, 256, shuffle=False, transforms=fixed)
        algorithm = optimizer(
            chosen["optimizer"], model.parameters(), chosen["lr"], chosen.get("momentum", 0.9),
            chosen.get("weight_decay", 0.0),
        )  # fmt: skip
        steps = self.epochs * len(train)
        measure = self.measure

        class Report(Callback):
            def on_epoch_end(self, trainer: Any) -> None:
                trial.report(float(trainer.history.epochs[f"validation_{measure}"][-1]))

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TrainingWarning)  # the trial is pruned, which says the same
            history = fit(
                model,
                train,
                validation=held,
                loss=fnn.nn.CrossEntropyLoss(label_smoothing=chosen.get("label_smoothing", 0.0)),
                optimizer=algorithm,
                epochs=self.epochs,
                scheduler=schedule(chosen["schedule"], algorithm, steps, round(chosen["warmup"] * len(train))),
                schedule="step",
                callbacks=(Report(),),
                progress=False,
                monitor=False,
            )
        if history.diverged:
            trial.report(math.nan)
        return float(history.epochs[f"validation_{measure}"][-1])


def _halves(data: Any) -> tuple[Any, Any]:
    """Training and validation set: two data sets, or one of which a tenth is held out."""
    from fastnn.data import ArrayDataset

    pair = isinstance(data, tuple) and len(data) == 2
    if pair and all(hasattr(each, "x") or isinstance(each, tuple) for each in data):
        return data[0], data[1]
    whole = ArrayDataset(*data) if pair else data
    if not isinstance(whole, ArrayDataset):
        raise TypeError(
            f"search: data is a {type(data).__name__}; expected a data set, (x, y), or (training, validation)"
        )
    return whole.split(HELD_OUT)
