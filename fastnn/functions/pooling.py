"""The public functions of the family `pooling`."""

from __future__ import annotations

__all__: list[str] = []
