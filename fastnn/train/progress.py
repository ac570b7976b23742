"""What a training run shows on a terminal: a line for each epoch that is done, a bar for the whole run below."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

from fastnn.optional import need

_INTERVAL = 0.1  # seconds between two drawings of the bar


class Progress:
    """A tqdm bar over all samples of a run on a terminal; nothing where standard error is no terminal."""

    def __init__(self, wanted: bool, samples: int, done: int, epochs: int) -> None:
        self._bar: Any = None
        self._epochs, self._shown = epochs, 0.0
        if wanted and sys.stderr is not None and sys.stderr.isatty():
            self._bar = need("tqdm", "A progress bar (progress=False does without)", "train").tqdm(
                total=samples,
                initial=done,
                unit=" samples",
                unit_scale=True,
                dynamic_ncols=True,
                mininterval=_INTERVAL,
                leave=False,
                bar_format="{desc} {percentage:3.0f}%|{bar}| {remaining} left, {rate_fmt}{postfix}",
            )

    def batch(self, epoch: int, samples: int, loss: float, right: Any, answers: float) -> None:
        """A batch is done; so many of so many answers were right. A number on a device is read when it is shown."""
        if self._bar is None:
            return
        now = time.monotonic()
        if now - self._shown >= _INTERVAL:
            self._shown = now
            self._bar.set_description_str(f"epoch {epoch + 1}/{self._epochs}", refresh=False)
            shown = f", accuracy {100 * float(right) / answers:.1f} %" if answers else ""
            self._bar.set_postfix_str(f"loss {loss:.4g}{shown}", refresh=False)
        self._bar.update(samples)

    def epoch(self, epoch: int, values: dict[str, float]) -> None:
        """An epoch is done: its line stays above the bar."""
        if self._bar is not None:
            self._bar.write(epoch_line(epoch, self._epochs, values), file=sys.stderr)

    def say(self, text: str) -> None:
        """A line that stays."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def epoch_line(epoch: int, epochs: int, values: dict[str, float]) -> str:
    """What an epoch has come to, on one line."""
    width = len(str(epochs))
    parts = [f"epoch {epoch + 1:>{width}}/{epochs}", _pair("training", values["loss"], values["accuracy"])]
    if "validation_loss" in values:
        parts.append(_pair("validation", values["validation_loss"], values["validation_accuracy"]))
    rate = values["samples"] / values["seconds"] if values["seconds"] > 0 else math.nan
    return "  ".join([*parts, f"lr {values['lr']:.3g}", f"{rate:,.0f} samples/s", f"{values['seconds']:.1f} s"])


def _pair(name: str, loss: float, accuracy: float) -> str:
    return f"{name} loss {loss:.4f}" + ("" if math.isnan(accuracy) else f", accuracy {100 * accuracy:5.2f} %")
