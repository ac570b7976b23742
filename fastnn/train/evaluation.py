"""What a model is worth: its loss, its accuracy, its predictions."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastnn import devices
from fastnn.arguments import whole_number
from fastnn.arrays import host, is_array
from fastnn.nn.losses import CrossEntropyLoss
from fastnn.nn.module import Module, no_grad
from fastnn.train.answers import right_answers
from fastnn.train.batches import as_batches, opened

if TYPE_CHECKING:
    from fastnn.infer import Session

__all__ = ["Evaluation", "evaluate", "predict"]

Array = npt.NDArray[Any]


class Evaluation(NamedTuple):
    """Mean loss and share of right answers over `samples` samples; accuracy is NaN where labels are no classes."""

    loss: float
    accuracy: float
    samples: int


@contextlib.contextmanager
def evaluating(model: Module) -> Iterator[None]:
    """Evaluation mode without gradients; every module's own mode comes back afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def _module(model: Any) -> Any:
    """A session as a module; any other model as it is."""
    if isinstance(model, Module):
        return model
    from fastnn.infer.module import as_module  # not imported where there is no session

    return as_module(model)


def evaluate(model: Module | Session, data: Any, loss: Any = None, *, batch_size: int = 256) -> Evaluation:
    """Loss and accuracy of a model, or of a session, on `data`: a loader, a data set or a pair (x, y).

    Runs in evaluation mode, keeps nothing for a backward pass, and leaves the modes as they were. `loss` is
    `fnn.nn.CrossEntropyLoss()` unless another, with mean reduction, is given. A loader is read as it is: let it neither
    augment nor drop the last batch. A model on a device is given its batches there.
    """
    batch_size, net = _batch_size("evaluate", batch_size), _module(model)
    criterion = criterion_of("evaluate", loss)
    loader = as_batches(data, net, batch_size=batch_size, shuffle=False)
    total, answers, samples = 0.0, 0, 0
    right: Any = 0
    with evaluating(net), opened(loader, 0, place=devices.place(net)) as batches:
        for x, y in batches:
            logits = net(x)
            total += float(criterion(logits, y)) * len(x)
            samples += len(x)
            found = right_answers(criterion, logits, y)
            if found is not None:
                right, answers = right + found[0], answers + found[1]
    if samples == 0:
        raise ValueError("evaluate: data is empty; expected one sample or more")
    return Evaluation(total / samples, float(right) / answers if answers else math.nan, samples)


def predict(model: Module | Session, x: Any, *, batch_size: int = 256) -> Array:
    """What a model or session makes of each sample of `x`, an array (N, ...), a data set or a loader, batch by batch.

    Runs in evaluation mode, keeps nothing for a backward pass, and leaves the modes as they were. Rows are in the order
    of the samples, so a loader must not shuffle them; that is a ValueError. They are NumPy's, wherever the model is.
    The classes of a classifier are `predict(model, x).argmax(1)`, their probabilities `fnn.softmax(predict(model, x))`.
    """
    batch_size, net = _batch_size("predict", batch_size), _module(model)
    if is_array(x) or isinstance(x, (list, tuple)):
        array = host(x)
        if array.ndim == 0 or not len(array):
            raise ValueError(f"predict: x has shape {array.shape}; expected one sample or more")
        x = (array, np.zeros(len(array), np.int64))
    if getattr(x, "shuffle", False) is True:
        raise ValueError("predict: x is a loader that shuffles; expected shuffle=False, so that rows are in order")
    loader = as_batches(x, net, batch_size=batch_size, shuffle=False)
    with evaluating(net), opened(loader, 0, place=devices.place(net)) as batches:
        outputs = [np.array(host(net(batch)), copy=True) for batch, _ in batches]
    if not outputs:
        raise ValueError("predict: x is empty; expected one sample or more")
    return np.concatenate(outputs)


def criterion_of(title: str, loss: Any) -> Any:
    """The loss that is asked for: of classifiers where none is."""
    if loss is None:
        return CrossEntropyLoss()
    if not callable(loss) or not hasattr(loss, "backward"):
        raise TypeError(f"{title}: loss is of type {type(loss).__name__}; expected one of fnn.nn, CrossEntropyLoss()")
    if getattr(loss, "reduction", "mean") != "mean":
        raise ValueError(f"{title}: loss has reduction={loss.reduction!r}; expected 'mean'")
    return loss


def _batch_size(title: str, batch_size: Any) -> int:
    number = whole_number(title, "batch_size", batch_size)
    if number < 1:
        raise ValueError(f"{title}: batch_size is {number}; expected 1 or more")
    return number
