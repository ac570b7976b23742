"""Sessions as C: one C99 file with weights, formulas and steps, and nothing that it depends on."""

from __future__ import annotations

from fastnn.infer.c.exporting import export_c

__all__ = ["export_c"]
