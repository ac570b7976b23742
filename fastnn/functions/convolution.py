"""The public functions of the family `convolution`."""

from __future__ import annotations

__all__: list[str] = []
