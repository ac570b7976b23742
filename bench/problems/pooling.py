"""Problems of the family pooling."""

from __future__ import annotations

from .functions import Spec

SPECS: tuple[Spec, ...] = ()
