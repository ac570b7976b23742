"""Problems of the family losses."""

from __future__ import annotations

from .functions import Spec

SPECS: tuple[Spec, ...] = ()
