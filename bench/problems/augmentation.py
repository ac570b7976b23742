"""Problems of the family augmentation."""

from __future__ import annotations

from .functions import Spec

SPECS: tuple[Spec, ...] = ()
