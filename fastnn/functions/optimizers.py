"""The public functions of the family `optimizers`."""

from __future__ import annotations

__all__: list[str] = []
