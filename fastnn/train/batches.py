"""What training and evaluation read: a loader, made from a data set or a pair of arrays where it is not one already."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from fastnn.nn.losses import BCEWithLogitsLoss, CrossEntropyLoss
from fastnn.nn.module import Module

Array = npt.NDArray[Any]


@runtime_checkable
class Batches(Protocol):
    """A loader: `len(loader)` batches an epoch, `loader.batches(epoch, start)` from one of them on."""

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        ...

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Any, Any]]:
        """The batches of an epoch, from number `start` on."""
        ...


def as_batches(data: Any, model: Module, *, batch_size: int, shuffle: bool, seed: int = 0) -> Batches:
    """A loader as it is; data of another kind by way of `fnn.data.Loader`, in the dtype of the model."""
    if isinstance(data, Batches):
        return data
    from fastnn.data import Loader

    # Biases and norms may be in float32 beside weights of 16 bits, which say what the input is.
    dtypes = [parameter.dtype for parameter in sorted(model.parameters(), key=lambda each: each.data.ndim < 2)]
    dtype = dtypes[0] if dtypes else np.dtype(np.float32)
    loader: Batches = Loader(data, batch_size=batch_size, shuffle=shuffle, seed=seed, dtype=dtype)
    return loader


def right_answers(criterion: Any, scores: Array, labels: Array) -> tuple[int, int] | None:
    """How many answers are right, and of how many; None where labels are no classes.

    Integer labels beside scores of one dimension more, with the classes along axis 1: the largest score counts. So it
    does beside rows of probabilities, as mixup makes them, under CrossEntropyLoss. Under BCEWithLogitsLoss it is the
    sign of each score.
    """
    if isinstance(criterion, BCEWithLogitsLoss):
        return int(np.count_nonzero((scores > 0) == (labels > 0.5))), scores.size
    if scores.ndim < 2 or scores.shape[1] < 2:
        return None
    if labels.dtype.kind in "iu" and labels.shape == scores.shape[:1] + scores.shape[2:]:
        return int(np.count_nonzero(scores.argmax(1) == labels)), labels.size
    if isinstance(criterion, CrossEntropyLoss) and labels.shape == scores.shape:
        chosen = scores.argmax(1) == labels.argmax(1)
        return int(np.count_nonzero(chosen)), chosen.size
    return None
