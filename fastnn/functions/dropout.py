"""The public functions of the family `dropout`."""

from __future__ import annotations

__all__: list[str] = []
