"""The reference backend: the textbook's formulas in plain NumPy, one module a family.

It is the plainest statement of what the other backends compute, and no faster than it looks.
"""

from __future__ import annotations

from fastnn.kernels.reference.activations import backward, forward

__all__ = ["backward", "forward"]
