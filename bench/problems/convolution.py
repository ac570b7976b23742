"""Problems of the family convolution."""

from __future__ import annotations

from .functions import Spec

SPECS: tuple[Spec, ...] = ()
