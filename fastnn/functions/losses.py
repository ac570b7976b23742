"""The public functions of the family `losses`."""

from __future__ import annotations

__all__: list[str] = []
