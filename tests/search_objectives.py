"""Objectives that other processes can import."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any


def bowl(trial: Any) -> float:
    """Least at lr 1e-3; b hardly matters."""
    import math

    return (math.log10(trial["lr"]) + 3) ** 2 + 0.01 * trial["b"]


class KillsItsWorker:
    """Ends its process by SIGKILL the first `times` that trial `number` runs."""

    def __init__(self, folder: Path, number: int, times: int = 1) -> None:
        self.folder, self.number, self.times = folder, number, times

    def __call__(self, trial: Any) -> float:
        runs = len(list(self.folder.glob(f"{trial.number}-*")))
        (self.folder / f"{trial.number}-{runs}").touch()
        if trial.number == self.number and runs < self.times:
            os.kill(os.getpid(), signal.SIGKILL)
        return bowl(trial)


def broken(trial: Any) -> float:
    """Goes wrong in its third trial."""
    if trial.number == 2:
        raise ZeroDivisionError("no such model")
    return bowl(trial)


def points_network(dropout: float) -> Any:
    """A network of the zoo for points of the plane."""
    import fastnn as fnn

    return fnn.models.create("mlp", input_shape=(2,), hidden=(16,), dropout=dropout)
