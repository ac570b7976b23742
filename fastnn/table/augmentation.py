"""The rows of the family `augmentation`."""

from __future__ import annotations

from fastnn.function import Function

ROWS: tuple[Function, ...] = ()
