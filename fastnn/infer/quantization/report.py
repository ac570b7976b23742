"""What quantization has done to a model, in numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QuantizedStep:
    """A step of a quantized session, and how well its result renders that in float32 on the calibration data."""

    step: str
    """What it does."""
    modules: tuple[str, ...]
    """Whose work it does."""
    low: float
    """The smallest number that its result can take; -inf for floats."""
    high: float
    scale: float
    """Of the result: q stands for scale (q - zero_point); 0 for floats."""
    zero_point: int
    sqnr: float
    """Signal to quantization noise of the result, errors of all steps before included, in dB; nan: not measured."""


@dataclass(frozen=True, slots=True)
class QuantizationReport:
    """`print(session.report)`: ranges, scales, noise, sizes, and with labels the accuracy."""

    method: str
    """How ranges were chosen."""
    samples: int
    """Of calibration data that were looked at."""
    steps: tuple[QuantizedStep, ...]
    sqnr: float
    """That of the model's result, in dB; nan without calibration data."""
    weight_bytes_float32: int
    weight_bytes: int
    accuracy_float32: float | None
    """The share of the calibration samples for which the largest result is at the label; None without labels."""
    accuracy: float | None
    """The same of the quantized session."""

    def __str__(self) -> str:
        """A table of the steps, and the whole below it."""
        rows = [("step", "modules", "range", "scale", "zero", "SQNR")]
        for k, step in enumerate(self.steps, start=1):
            exact = step.scale == 0
            rows.append(
                (
                    f"#{k} {step.step}",
                    ", ".join(step.modules),
                    "float32" if exact else f"{step.low:.4g} to {step.high:.4g}",
                    "" if exact else f"{step.scale:.4g}",
                    "" if exact else str(step.zero_point),
                    "" if math.isnan(step.sqnr) else f"{step.sqnr:.1f} dB",
                )
            )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        size = self.weight_bytes / max(1, self.weight_bytes_float32)
        how = f"ranges by {self.method} of {self.samples:,} samples" if self.samples else "ranges of each sample"
        lines.append(f"{how}; weights {self.weight_bytes_float32:,} -> {self.weight_bytes:,} bytes ({size:.1%})")
        if not math.isnan(self.sqnr):
            lines.append(f"result: SQNR {self.sqnr:.1f} dB")
        if self.accuracy is not None and self.accuracy_float32 is not None:
            lost = 100 * (self.accuracy_float32 - self.accuracy)
            lines.append(
                f"accuracy: {self.accuracy_float32:.2%} in float32, {self.accuracy:.2%} quantized "
                f"({lost:+.2f} points lost)"
            )
        return "\n".join(lines)
