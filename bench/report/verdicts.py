"""The speed targets held against a result."""

from __future__ import annotations

from dataclasses import dataclass

from ..targets import TARGETS, Target
from .results import Result
from .rows import Row, all_rows


@dataclass(frozen=True, slots=True)
class Held:
    """One target and what was measured; `ratio` is None where its reference was not there."""

    target: Target
    against: str
    ratio: float | None

    @property
    def met(self) -> bool | None:
        return None if self.ratio is None else round(self.ratio, 2) <= self.target.limit

    @property
    def short(self) -> str:
        return {None: "not measured", True: "met", False: "missed"}[self.met]

    @property
    def reason(self) -> str:
        """Why it was missed; nothing where it was not."""
        return self.target.reason if self.met is False else ""

    @property
    def verdict(self) -> str:
        return f"{self.short}: {self.reason}" if self.reason else self.short

    @property
    def name(self) -> str:
        target = self.target
        plain = target.direction == "forward+backward" or target.op.endswith("_backward")
        return target.op if plain else f"{target.op} {target.direction}"


def held(result: Result) -> list[Held]:
    """Every target whose function and shape the result has."""
    if result["settings"]["threads"] != 1:
        return []
    found = {(row.op, row.direction, row.label): row for row in all_rows(result) if row.dtype == "float32"}
    return [
        _hold(target, found[target.op, target.direction, target.label])
        for target in TARGETS
        if (target.op, target.direction, target.label) in found
    ]


def _hold(target: Target, row: Row) -> Held:
    name = row.best if target.against == "best" else target.against
    said = f"{row.best} (the best)" if target.against == "best" and row.best else str(name)
    if row.ours not in row.contenders or (name != "copy" and name not in row.contenders):
        return Held(target, said, None)
    reference = float(row.copy["median_s"]) if name == "copy" or name is None else row.seconds(name)
    return Held(target, said, row.seconds(row.ours) / reference)
