"""The public functions of the family `softmax`."""

from __future__ import annotations

__all__: list[str] = []
