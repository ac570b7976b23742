"""What a search found: its trials, the best of them, what to think of it, and where to look next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Record:
    """A finished trial; `value` is None unless it ran to its end, and `reason` says why it did not."""

    number: int
    parameters: dict[str, Any]
    value: float | None
    state: str  # "complete", "pruned" or "failed"
    reason: str
    seconds: float
    reports: dict[int, float]


@dataclass(frozen=True, slots=True)
class Study:
    """The result of a search."""

    space: dict[str, Any]
    minimize: bool
    strategy: str
    trials: list[Record]
    optuna: Any = field(repr=False, compare=False)
    """Optuna's own study, for its importances and plots."""

    @property
    def complete(self) -> list[Record]:
        """The trials that ran to their end, best first."""
        found = [record for record in self.trials if record.value is not None]
        return sorted(found, key=lambda record: record.value or 0.0, reverse=not self.minimize)

    @property
    def best(self) -> Record:
        """The best trial; ValueError where none ran to its end."""
        found = self.complete
        if not found:
            reasons = "; ".join(dict.fromkeys(record.reason for record in self.trials if record.reason)) or "none ran"
            raise ValueError(f"search: no trial ran to its end ({reasons}); look at lower learning rates")
        return found[0]

    @property
    def best_value(self) -> float:
        """The best trial's value."""
        value = self.best.value
        assert value is not None
        return value

    @property
    def best_parameters(self) -> dict[str, Any]:
        """The best trial's hyper-parameters."""
        return self.best.parameters

    @property
    def warnings(self) -> list[str]:
        """What is to be doubted about the result, in plain sentences."""
        said = []
        if not self.complete:
            return ["No trial ran to its end."]
        for name, each in self.space.items():
            edge = each.edge(self.best_parameters[name])
            if edge:
                said.append(
                    f"The best {name}, {self.best_parameters[name]:.3g}, lies at the {edge} edge of its range "
                    f"({each}): better values may lie beyond it, so move the range and search again."
                )
        diverged = sum(record.reason.startswith("diverged") for record in self.trials)
        if 2 * diverged > len(self.trials):
            said.append(
                f"{diverged} of {len(self.trials)} trials diverged: the range of the learning rate reaches too high."
            )
        failed = [record for record in self.trials if record.state == "failed"]
        if failed:
            said.append(f"{len(failed)} of {len(self.trials)} trials failed: {failed[-1].reason}.")
        return said

    def summary(self) -> list[str]:
        """How it went, the best trial, and the warnings, as sentences."""
        states = [record.state for record in self.trials]
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        said = [f"{len(states)} trials by {self.strategy} search: {counts}."]
        if self.complete:
            values = ", ".join(f"{name} {value_text(value)}" for name, value in self.best_parameters.items())
            said.append(f"Best: {self.best_value:.4g}, trial {self.best.number}, with {values}.")
        return said + self.warnings

    def as_dict(self) -> dict[str, Any]:
        """Everything as data for JSON."""
        from fastnn.train.search.spaces import described

        return {
            "strategy": self.strategy,
            "direction": "minimize" if self.minimize else "maximize",
            "space": described(self.space),
            "best": self.best.number if self.complete else None,
            "warnings": self.warnings,
            "trials": [
                {
                    "number": record.number,
                    "parameters": record.parameters,
                    "value": record.value,
                    "state": record.state,
                    "reason": record.reason,
                    "seconds": round(record.seconds, 3),
                    "reports": record.reports,
                }
                for record in self.trials
            ],
        }


def value_text(value: Any) -> str:
    """A hyper-parameter's value, short."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def refine(study: Study, *, shrink: float = 1 / 3) -> dict[str, Any]:
    """The space for the next, finer search: each range `shrink` times as wide, in its own scale, about the best value.

    From coarse to fine: a few short trials over wide ranges, then longer ones over narrower. A range in log scale
    may reach beyond its old ends, which it should where the best value lay there; a choice keeps the best value alone.
    """
    if not 0 < shrink < 1:
        raise ValueError(f"refine: shrink is {shrink}; expected a number between 0 and 1")
    best: Mapping[str, Any] = study.best_parameters
    return {name: each.around(best[name], shrink) for name, each in study.space.items()}
