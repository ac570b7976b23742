"""Rows of the family `normalization`."""

from __future__ import annotations

from fastnn.function import Function
from fastnn.table import batch_norm, row_norm

ROWS: tuple[Function, ...] = (*batch_norm.ROWS, *row_norm.ROWS)
