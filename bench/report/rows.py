"""The figures of a result file as rows: fastnn, its best rival, and both their errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .results import ACTIVATIONS, Result

OURS = "fastnn native"
PREFIX = "fastnn "


@dataclass(frozen=True, slots=True)
class Error:
    """Max ULP on the benchmark's own numbers, and on the stress sample where there is one."""

    sample: float
    stress: float | None

    @property
    def worst(self) -> float:
        return self.sample if self.stress is None else max(self.sample, self.stress)


@dataclass(frozen=True, slots=True)
class Row:
    """One function, dtype and shape."""

    family: str
    op: str
    direction: str
    dtype: str
    label: str
    size: int
    main: bool
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
    """The activations' rows: what has a direction and a number of elements."""
    return [row for row in all_rows(result) if row.family == ACTIVATIONS]


def function_rows(result: Result) -> list[Row]:
    """The rows of all other families."""
    return [row for row in all_rows(result) if row.family != ACTIVATIONS]


def all_rows(result: Result) -> list[Row]:
    errors: dict[tuple[str, str, str], dict[str, Error]] = {}
    for found in result["accuracy"]:
        key = found["op"], found["pass"], found["dtype"]
        stress = found["ulp_stress"]
        error = Error(number(found["ulp_sample"]), None if stress is None else number(stress))
        errors.setdefault(key, {})[found["contender"]] = error
    return [
        Row(
            family=cell["family"],
            op=cell["op"],
            direction=cell["pass"],
            dtype=cell["dtype"],
            label=cell["label"],
            size=cell["size"],
            main=cell["main"],
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
    """Activations that belong in one table: same dtype, size and direction, in the order of the file."""
    keys = dict.fromkeys((row.dtype, row.size, row.direction) for row in found)
    for key in keys:
        yield key, [row for row in found if (row.dtype, row.size, row.direction) == key]


def families(found: list[Row]) -> Iterator[tuple[tuple[str, str], list[Row]]]:
    """Other functions that belong in one table: same dtype and family."""
    keys = dict.fromkeys((row.dtype, row.family) for row in found)
    for key in keys:
        yield key, [row for row in found if (row.dtype, row.family) == key]


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


def us_text(seconds: float) -> str:
    """Microseconds, to about three digits."""
    value = 1e6 * seconds
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def rate_text(timing: dict[str, Any]) -> str:
    """What limits the function: arithmetic done where that is counted, else bytes moved, per second."""
    if "gflop_per_s" in timing:
        return f"{timing['gflop_per_s']:.3g} GFLOP/s"
    return f"{timing['gb_per_s']:.3g} GB/s"


def bytes_text(count: int | None) -> str:
    """Memory beyond the results; "-" where it was not measured."""
    if count is None:
        return "-"
    for unit, size in (("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} B" if count else "0"


def summary(result: Result) -> list[str]:
    """Plain sentences about everything measured, good and bad."""
    found = rows(result)
    said = []
    for (dtype, size, direction), group in groups(found):
        if size == main_size(found):
            said += _compared(f"{direction.capitalize()}, {size:,} x {dtype}", group, lambda row: row.op)
    others = function_rows(result)
    for dtype in dict.fromkeys(row.dtype for row in others):
        group = [row for row in others if row.dtype == dtype]
        said += _compared(f"The other functions, {dtype}", group, lambda row: f"{row.op} {row.label}")
    return said


def _compared(what: str, group: list[Row], name: Callable[[Row], str]) -> list[str]:
    rated = sorted((row for row in group if row.ratio is not None), key=lambda row: row.ratio or 0)
    if not rated:
        return []
    ratios = [row.ratio for row in rated if row.ratio]
    slower = [row for row in rated if row.ratio and row.ratio > 1.02]
    text = (
        f"{what}: fastnn takes {geometric_mean(ratios):.2f} of the time of the fastest installed rival on (geometric) "
        f"average, from {ratios[0]:.2f} ({name(rated[0])}) to {ratios[-1]:.2f} ({name(rated[-1])}); it is as fast or "
        f"faster in {len(rated) - len(slower)} of {len(rated)}"
    )
    losses = ", ".join(f"{name(row)} ({row.ratio:.2f} x {row.best})" for row in slower)
    return [f"{text}, slower in {losses}." if losses else f"{text}."]
