"""The public functions of the family `normalization`."""

from __future__ import annotations

__all__: list[str] = []
