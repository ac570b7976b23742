"""Problems of the family regularizers."""

from __future__ import annotations

from .functions import Spec

SPECS: tuple[Spec, ...] = ()
