"""Problems of the family linear."""

from __future__ import annotations

from .functions import Spec

SPECS: tuple[Spec, ...] = ()
