"""What a training run has recorded: numbers per step, per epoch and per layer, and what was found."""

from __future__ import annotations

import json
import math
import os
from array import array
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.train.findings import Finding

__all__ = ["History"]

Array = npt.NDArray[np.float64]
_VERSION = 1


class Series:
    """Columns of numbers that grow by a row at a time; a column that begins late, or misses a row, has NaN there."""

    def __init__(self) -> None:
        self.rows = 0
        self._columns: dict[str, array[float]] = {}

    def append(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            column = self._columns.get(name)
            if column is None:
                column = self._columns[name] = array("d", [math.nan]) * self.rows
            column.append(value)
        self.rows += 1
        for column in self._columns.values():
            if len(column) < self.rows:
                column.append(math.nan)

    def arrays(self) -> dict[str, Array]:
        return {name: np.array(column, np.float64) for name, column in self._columns.items()}

    @classmethod
    def of(cls, columns: Mapping[str, Iterable[float]]) -> Series:
        series = cls()
        series._columns = {name: array("d", map(float, column)) for name, column in columns.items()}
        lengths = {len(column) for column in series._columns.values()}
        if len(lengths) > 1:
            raise ValueError(f"History: columns of one table have the lengths {sorted(lengths)}; expected one length")
        series.rows = lengths.pop() if lengths else 0
        return series


class History:
    """The record of a run.

    `steps`: arrays with one element a step: "loss" (without penalty), "lr", and "penalty" and "grad_norm" where there
    are a regulariser and clipping. `epochs`: one element an epoch: "loss" and "accuracy" (means over the epoch's
    batches as they were trained on), "validation_loss" and "validation_accuracy", "lr",
    "seconds" and "samples" of training, "last_step".
    `layers`: for each layer that the monitor has looked at, arrays with one element a look: "step", "mean", "std",
    "dead", "saturated", "gradient_mean", "gradient_std", "update_ratio". `findings`: what was noticed, as sentences.
    `stopped`: why the run ended early, or None; `diverged`: whether that was because it went wrong.
    """

    def __init__(self) -> None:
        self._steps, self._epochs = Series(), Series()
        self._layers: dict[str, Series] = {}
        self.findings: list[Finding] = []
        self.stopped: str | None = None
        self.diverged = False
        self.best_epoch: int | None = None
        """The epoch, from 0, whose weights early stopping has kept."""

    def record_step(self, values: Mapping[str, float]) -> None:
        """Add a step."""
        self._steps.append(values)

    def record_epoch(self, values: Mapping[str, float]) -> None:
        """Add an epoch."""
        self._epochs.append(values)

    def record_layer(self, name: str, values: Mapping[str, float]) -> None:
        """Add a look at a layer."""
        self._layers.setdefault(name, Series()).append(values)

    @property
    def steps(self) -> dict[str, Array]:
        """Arrays over the steps."""
        return self._steps.arrays()

    @property
    def epochs(self) -> dict[str, Array]:
        """Arrays over the epochs."""
        return self._epochs.arrays()

    @property
    def layers(self) -> dict[str, dict[str, Array]]:
        """Arrays over the monitor's looks at each layer."""
        return {name: series.arrays() for name, series in self._layers.items()}

    def __len__(self) -> int:
        """The number of epochs."""
        return self._epochs.rows

    def plot(self, path: str | os.PathLike[str], title: str = "") -> Path:
        """Draw loss, accuracy and learning rate to an image file; needs Matplotlib."""
        from fastnn.train.plots import plot

        return plot(self, path, title)

    def as_dict(self) -> dict[str, Any]:
        """Everything, with arrays as they are."""
        return {
            "version": _VERSION,
            "steps": self.steps,
            "epochs": self.epochs,
            "layers": self.layers,
            "findings": [finding.as_dict() for finding in self.findings],
            "stopped": self.stopped,
            "diverged": self.diverged,
            "best_epoch": self.best_epoch,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> History:
        """What `as_dict` has returned."""
        if values.get("version") != _VERSION:
            raise ValueError(f"History: version is {values.get('version')!r}; expected {_VERSION}")
        history = cls()
        history._steps, history._epochs = Series.of(values["steps"]), Series.of(values["epochs"])
        history._layers = {name: Series.of(columns) for name, columns in values["layers"].items()}
        history.findings = [Finding(**each) for each in values["findings"]]
        history.stopped, history.diverged = values["stopped"], values["diverged"]
        history.best_epoch = values["best_epoch"]
        return history

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Everything as JSON, to a file if one is named; numbers keep their bits, NaN and infinities are strings."""
        text = json.dumps(self.as_dict(), default=_numbers, allow_nan=False)
        if path is not None:
            Path(path).write_text(text + "\n", encoding="utf-8")
        return text

    @classmethod
    def from_json(cls, source: str | os.PathLike[str]) -> History:
        """From a file, or from the text itself."""
        text = (
            source if isinstance(source, str) and source.lstrip().startswith("{") else Path(source).read_text("utf-8")
        )
        try:
            return cls.from_dict(json.loads(text))
        except (KeyError, AttributeError, json.JSONDecodeError) as error:
            raise ValueError(f"History: this is no history as JSON: {type(error).__name__}: {error}") from None

    def __repr__(self) -> str:
        """Length, last losses, why it stopped."""
        parts = [f"{len(self)} epochs, {self._steps.rows} steps"]
        for name, column in self.epochs.items():
            if name in ("loss", "accuracy", "validation_loss", "validation_accuracy") and math.isfinite(column[-1]):
                parts.append(f"{name}={column[-1]:.4g}")
        if self.stopped:
            parts.append(f"stopped: {self.stopped}")
        return f"History({', '.join(parts)})"


def _numbers(values: Any) -> list[float | str]:
    return [number if math.isfinite(number) else str(number) for number in values.tolist()]
