"""The public functions of the family `gating`."""

from __future__ import annotations

__all__: list[str] = []
