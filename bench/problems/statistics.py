"""Problems of the family statistics."""

from __future__ import annotations

from .functions import Spec

SPECS: tuple[Spec, ...] = ()
