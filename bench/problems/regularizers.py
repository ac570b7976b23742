"""Regularisers: the weights of a wide layer and of a narrow one."""

from __future__ import annotations

from .functions import Arguments, Build, Maker, Spec, over

FAMILY = "regularizers"
SIZES = ((1_000_000,), (65_536,))
