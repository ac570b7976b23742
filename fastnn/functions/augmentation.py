"""The public functions of the family `augmentation`."""

from __future__ import annotations

__all__: list[str] = []
