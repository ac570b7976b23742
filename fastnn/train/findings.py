"""What a check has found: a plain sentence, and what to try."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Finding", "TrainingWarning"]


class TrainingWarning(UserWarning):
    """A training run was stopped because it went wrong."""


@dataclass(frozen=True)
class Finding:
    """One thing that was noticed about a run.

    `kind` is a short name for programs, such as "lr_too_high"; `message` says what was seen, `advice` what to try, and
    is empty where all is well. `step` is the step at which it was seen, where there is one.
    """

    kind: str
    message: str
    advice: str = ""
    step: int | None = None

    @property
    def healthy(self) -> bool:
        """Whether there is nothing to do about it."""
        return not self.advice

    def __str__(self) -> str:
        """Message and advice."""
        return f"{self.message} {self.advice}".strip()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)
