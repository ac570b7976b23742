"""A session where a model is expected."""

from __future__ import annotations

from typing import Any

from fastnn.infer.session import Session
from fastnn.nn.module import Module


class SessionModule(Module):
    """A module without parameters whose result is the session's, in either mode; it has no backward."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def forward(self, x: Any) -> Any:
        return self.session(x.astype(self.session.dtype, copy=False))

    def to(self, target: Any = None, dtype: Any = None, *, device: Any = None) -> SessionModule:
        """A session stays where it is, and what it is."""
        if (given := device or target or dtype) != "cpu":
            raise ValueError(f"a session runs on the CPU, in the dtype that it was compiled for; got {given}")
        return self


def as_module(model: Any) -> Any:
    """A session as such a module; anything else as it is."""
    return SessionModule(model) if isinstance(model, Session) else model
