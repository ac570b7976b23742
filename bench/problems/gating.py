"""Problems of the family gating."""

from __future__ import annotations

from .functions import Spec

SPECS: tuple[Spec, ...] = ()
