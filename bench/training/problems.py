"""The networks whose training step is measured, and how fast it is meant to be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..problems.base import check_choice

BATCHES = 4  # different ones, taken in turn
LR, MOMENTUM, WEIGHT_DECAY = 1e-3, 0.9, 5e-4  # a low rate: thousands of steps on noise must not end in denormal numbers


@dataclass(frozen=True, slots=True)
class Network:
    """A network of the zoo, as `fastnn train` trains it, and its batch; `limit` is fastnn's time over PyTorch's."""

    name: str
    about: str
    batch: int
    shape: tuple[int, ...]
    limit: float
    images: bool  # PyTorch then tries channels_last too
    reason: str = ""  # why a target is out of reach, shown where it has been missed

    def batches(self) -> list[tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]]:
        """Standardised noise with labels: a step's time does not depend on the numbers."""
        rng = np.random.default_rng(0)
        return [
            (rng.standard_normal((self.batch, *self.shape), np.float32), rng.integers(0, 10, self.batch))
            for _ in range(BATCHES)
        ]


# Half of PyTorch's time where its overhead per layer weighs, as much where convolutions do: set beforehand.
NETWORKS = {
    each.name: each
    for each in (
        Network("mlp", "784-256-128-10, batch norm, dropout 0.2", 128, (1, 28, 28), 0.5, False),
        Network("lenet5", "ReLU, max pools", 64, (1, 28, 28), 0.5, True),
        Network("alexnet4", "batch norm", 128, (3, 32, 32), 1.0, True),
        Network("resnet8", "projection shortcuts", 128, (3, 32, 32), 1.0, True),
    )
}


def chosen(names: Iterable[str] | None) -> list[Network]:
    """The networks by name, or all; ValueError where there is no such network."""
    wanted = tuple(NETWORKS if names is None else names)
    check_choice("network", wanted, tuple(NETWORKS))
    return [NETWORKS[name] for name in wanted]
