"""What training and evaluation read: a loader, made from a data set or a pair of arrays where it is not one already."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np

from fastnn import devices
from fastnn.nn.batch_norm import BatchNorm1d
from fastnn.nn.module import Module


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
    if not isinstance(model, Module):
        raise TypeError(f"model is of type {type(model).__name__}; expected an fnn.nn.Module")
    if isinstance(data, Batches):
        return data
    from fastnn.data import Loader

    # Biases and norms may be in float32 beside weights of 16 bits, which say what the input is.
    dtypes = [parameter.dtype for parameter in sorted(model.parameters(), key=lambda each: each.data.ndim < 2)]
    dtype = dtypes[0] if dtypes else np.dtype(np.float32)
    drop = shuffle and leaves_one(model, data, batch_size)
    loader: Batches = Loader(data, batch_size=batch_size, shuffle=shuffle, seed=seed, drop_last=drop, dtype=dtype)
    return loader


def leaves_one(model: Module, data: Any, batch_size: int) -> bool:
    """Whether the last batch has one sample, of which a batch norm of rows finds no variance: training drops it."""
    from fastnn.data.dataset import as_dataset

    samples = len(as_dataset("Loader", data))
    return samples > 1 == samples % batch_size and any(isinstance(each, BatchNorm1d) for each in model.modules())


@contextlib.contextmanager
def opened(
    loader: Batches, epoch: int, start: int = 0, place: int | None = None
) -> Iterator[Iterator[tuple[Any, Any]]]:
    """The batches of an epoch, whose thread, if they have one, ends with the block, whatever ends that.

    With the number of a device they are taken there, and it is the current one within the block. The device computes
    while the loader prepares the next batch: nothing waits but for what is read.
    """
    batches = loader.batches(epoch, start)
    try:
        if place is None:
            yield batches
        else:
            moved = devices.mover(place)
            with devices.current(place):
                yield ((moved(x), moved(y)) for x, y in batches)
    finally:
        close = getattr(batches, "close", None)
        if close is not None:
            close()
