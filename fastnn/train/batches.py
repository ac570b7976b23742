"""What training and evaluation read: a loader, made from a data set or a pair of arrays where it is not one already."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

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

    dtype = next((parameter.dtype for parameter in model.parameters()), np.dtype(np.float32))
    loader: Batches = Loader(data, batch_size=batch_size, shuffle=shuffle, seed=seed, dtype=dtype)
    return loader


def correct_in(logits: Array, labels: Array) -> int | None:
    """How many samples the largest score labels rightly; None where labels are no classes.

    Labels are integers, scores beside them of one dimension more with the classes along axis 1; or rows of
    probabilities, as mixup makes them, whose largest counts.
    """
    if logits.ndim < 2 or logits.shape[1] < 2:
        return None
    if labels.dtype.kind in "iu" and labels.shape == logits.shape[:1] + logits.shape[2:]:
        return int(np.count_nonzero(logits.argmax(1) == labels))
    if (
        labels.shape == logits.shape
        and labels.ndim == 2
        and labels.min() >= 0
        and np.allclose(labels.sum(1), 1, atol=1e-3)
    ):
        return int(np.count_nonzero(logits.argmax(1) == labels.argmax(1)))
    return None


def counted(labels: Array) -> int:
    """How many answers `correct_in` has judged: samples, or positions where each has a label of its own."""
    return labels.size if labels.dtype.kind in "iu" else len(labels)
