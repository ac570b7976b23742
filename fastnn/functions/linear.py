"""The public functions of the family `linear`."""

from __future__ import annotations

__all__: list[str] = []
