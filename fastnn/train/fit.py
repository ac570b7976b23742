"""Training in one call."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from fastnn.nn.module import Module
from fastnn.optim import Optimizer
from fastnn.regularizers import Regularizer
from fastnn.train.callbacks import Callback, EarlyStopping
from fastnn.train.checkpoint import Checkpoints
from fastnn.train.history import History
from fastnn.train.monitor import Monitor
from fastnn.train.trainer import Schedule, Trainer

__all__ = ["fit"]


def fit(
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
) -> History:
    """Train `model`, in place, and return what was recorded.

    Parameters
    ----------
    model
        The network. It is trained in training mode and has its modes back afterwards. One on a device
        (`model.to("cuda")`) is trained there: the data stay in main memory, and the loop takes each batch to it.
    train
        What it learns: an `fnn.data.Loader`, or a data set or pair (x, y), of which one is made with `batch_size`, in
        an order that depends on `seed`; a last batch of one sample is left out where the model has a BatchNorm1d.
    validation
        A loader, data set or pair (x, y) for loss and accuracy after every epoch. It must not augment.
    loss
        A loss with mean reduction: `CrossEntropyLoss()` by default.
    optimizer
        An optimiser over the model's parameters: `fnn.optim.Adam(model.parameters())` by default.
    epochs, batch_size
        How many times all of `train` is seen, and in batches of how many samples.
    scheduler, schedule
        A schedule of the learning rate, stepped after each "epoch" or each "step". `ReduceLROnPlateau` gets the
        validation loss, or that of training.
    regularizer
        A penalty on the weights: `fnn.regularizers.L2(1e-4)`.
    clip_grad_norm
        The largest norm of all gradients together; they are scaled down to it.
    early_stopping
        Epochs without an improvement after which to stop, or an `EarlyStopping`. The best weights are restored.
    callbacks
        `Callback` objects of your own.
    checkpoint, resume
        A folder, in which the state is saved after every epoch, or `Checkpoints` that say how often. A run whose folder
        holds a checkpoint goes on from there, with the optimiser's options of then and the same bits as if it had not
        been interrupted, unless resume=False.
    seed
        Of the order of the samples. Initial weights and the masks of random layers follow from `fnn.manual_seed`, set
        before the model is made: with both, a run repeats to the last bit at any number of threads.
    progress
        A bar with loss, samples per second and the time left, if standard error is a terminal.
    monitor
        How many steps lie between two looks at activations, gradients and updates of every layer, or a `Monitor`; by
        default there are about 20 looks in a run. False: none. It changes no result.
    divergence
        The run is stopped when the running mean of its loss is more than this many times that of the first step, or of
        guessing (ln C for C classes, the variance of the targets for squares) if that is larger; and when a loss is
        not finite. inf: only then.

    Returns
    -------
    history
        Numbers per step, epoch and layer, and `history.findings`: what was noticed about the run, in sentences, and
        what to try. A run that went wrong has `history.diverged`, why in `history.stopped`, and is a TrainingWarning.

    Raises
    ------
    TypeError, ValueError
        For arguments that are not valid, and for a checkpoint that is damaged or of another run. Nothing has been
        trained then.
    """
    return Trainer(
        model,
        train,
        validation=validation,
        loss=loss,
        optimizer=optimizer,
        epochs=epochs,
        batch_size=batch_size,
        scheduler=scheduler,
        schedule=schedule,
        regularizer=regularizer,
        clip_grad_norm=clip_grad_norm,
        early_stopping=early_stopping,
        callbacks=callbacks,
        checkpoint=checkpoint,
        resume=resume,
        seed=seed,
        progress=progress,
        monitor=monitor,
        divergence=divergence,
    ).run()
