"""Problems of the family softmax."""

from __future__ import annotations

from .functions import Spec

SPECS: tuple[Spec, ...] = ()
