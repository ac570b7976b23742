"""The public functions of the family `statistics`."""

from __future__ import annotations

__all__: list[str] = []
