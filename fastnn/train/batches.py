"""What training and evaluation read: a loader, made from a data set or a pair of arrays where it is not one already."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np

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
    if isinstance(data, Batches):
        return data
    from fastnn.data import Loader

    # Biases and norms may be in float32 beside weights of 16 bits, which say what the input is.
    dtypes = [parameter.dtype for parameter in sorted(model.parameters(), key=lambda each: each.data.ndim < 2)]
    dtype = dtypes[0] if dtypes else np.dtype(np.float32)
    loader: Batches = Loader(data, batch_size=batch_size, shuffle=shuffle, seed=seed, dtype=dtype)
    return loader


@contextlib.contextmanager
def opened(loader: Batches, epoch: int, start: int = 0) -> Iterator[Iterator[tuple[Any, Any]]]:
    """The batches of an epoch, whose thread, if they have one, ends with the block, whatever ends that."""
    batches = loader.batches(epoch, start)
    try:
        yield batches
    finally:
        close = getattr(batches, "close", None)
        if close is not None:
            close()
