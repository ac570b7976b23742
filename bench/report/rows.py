"""The figures of a result file as rows: fastnn, its best rival, and both their errors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

OURS = "fastnn native"
PREFIX = "fastnn "

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Error:
    """Max ULP on the benchmark's own numbers and on the stress sample."""

    sample: float
    stress: float

    @property
    def worst(self) -> float:
        return max(self.sample, self.stress)


@dataclass(frozen=True, slots=True)
class Row:
    """One op, direction, dtype and size."""

    op: str
    direction: str
    dtype: str
    size: int
    copy: dict[str, Any]
    contenders: dict[str, dict[str, Any]]
    errors: dict[str, Error]

    @property
    def ours(self) -> str:
        """The fastnn backend that the row is about: native, or the only one measured."""
        mine = [name for name in self.contenders if name.startswith(PREFIX)]
        return OURS if OURS in mine or not mine else mine[0]

    @property
    def best(self) -> str | None:
        """The fastest rival; None if nobody else offers the op."""
        others = [name for name in self.contenders if not name.startswith(PREFIX)]
        return min(others, key=self.seconds, default=None)

    @property
    def ratio(self) -> float | None:
        """fastnn's time over the best rival's: below 1 is faster."""
        return self.seconds(self.ours) / self.seconds(self.best) if self.best and self.ours in self.contenders else None

    def seconds(self, name: str) -> float:
        return float(self.contenders[name]["median_s"])


def rows(result: Result) -> list[Row]:
    errors: dict[tuple[str, str, str], dict[str, Error]] = {}
    for found in result["accuracy"]:
        key = found["op"], found["pass"], found["dtype"]
        errors.setdefault(key, {})[found["contender"]] = Error(number(found["ulp_sample"]), number(found["ulp_stress"]))
    return [
        Row(
            op=cell["op"],
            direction=cell["pass"],
            dtype=cell["dtype"],
            size=cell["size"],
            copy=cell["copy"],
            contenders=cell["contenders"],
            errors=errors.get((cell["op"], cell["pass"], cell["dtype"]), {}),
        )
        for cell in result["results"]
    ]


def number(value: Any) -> float:
    """A float from JSON, which has no infinity of its own: the file says "inf"."""
    return float(value)


def groups(found: list[Row]) -> Iterator[tuple[tuple[str, int, str], list[Row]]]:
    """Rows that belong in one table: same dtype, size and direction, in the order of the file."""
    keys = dict.fromkeys((row.dtype, row.size, row.direction) for row in found)
    for key in keys:
        yield key, [row for row in found if (row.dtype, row.size, row.direction) == key]


def main_size(found: list[Row]) -> int:
    """The size that summaries show: a million if measured, else the nearest to it."""
    return min({row.size for row in found}, key=lambda size: abs(math.log(size / 1e6)))


def geometric_mean(values: list[float]) -> float:
    return math.exp(math.fsum(map(math.log, values)) / len(values))


def ulp_text(error: float | None) -> str:
    """A short form: 0, 0.5, 1.7, 27, 4e+05; "wrong" where a finite result came out infinite or NaN or the reverse."""
    if error is None:
        return "-"
    if math.isinf(error):
        return "wrong"
    if error >= 1000:
        return f"{error:.0e}".replace("e+0", "e").replace("e+", "e")
    return f"{error:.0f}" if error == 0 or error >= 100 else f"{error:.3g}" if error >= 10 else f"{error:.1f}"


def ns_text(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def summary(result: Result) -> list[str]:
    """Plain sentences about all ops, good and bad."""
    found = rows(result)
    said: list[str] = []
    for (dtype, size, direction), group in groups(found):
        if size != main_size(found):
            continue
        rated = sorted((row for row in group if row.ratio is not None), key=lambda row: row.ratio or 0)
        if not rated:
            continue
        ratios = [row.ratio for row in rated if row.ratio]
        slower = [row for row in rated if row.ratio and row.ratio > 1.02]
        text = (
            f"{direction.capitalize()}, {size:,} x {dtype}: fastnn takes {geometric_mean(ratios):.2f} of the time of "
            f"the fastest installed rival on (geometric) average, from {ratios[0]:.2f} ({rated[0].op}) to "
            f"{ratios[-1]:.2f} ({rated[-1].op}); it is as fast or faster in {len(rated) - len(slower)} of {len(rated)}"
        )
        losses = ", ".join(f"{row.op} ({row.ratio:.2f} x {row.best})" for row in slower)
        said.append(f"{text}, slower in {losses}." if losses else f"{text}.")
    return said
