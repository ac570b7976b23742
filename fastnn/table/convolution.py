"""The rows of the family `convolution`."""

from __future__ import annotations

from fastnn.function import Function

ROWS: tuple[Function, ...] = ()
