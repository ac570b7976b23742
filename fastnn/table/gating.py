"""The rows of the family `gating`."""

from __future__ import annotations

from fastnn.function import Function

ROWS: tuple[Function, ...] = ()
