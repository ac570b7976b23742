"""Problems of the family optimizers."""

from __future__ import annotations

from .functions import Spec

SPECS: tuple[Spec, ...] = ()
