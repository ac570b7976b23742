"""Problems of the family dropout."""

from __future__ import annotations

from .functions import Spec

SPECS: tuple[Spec, ...] = ()
