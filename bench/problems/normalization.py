"""Problems of the family normalization."""

from __future__ import annotations

from .functions import Spec

SPECS: tuple[Spec, ...] = ()
