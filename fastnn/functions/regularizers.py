"""The public functions of the family `regularizers`."""

from __future__ import annotations

__all__: list[str] = []
