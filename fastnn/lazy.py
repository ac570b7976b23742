"""Packages whose names are there when they are first asked for."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Container
from types import ModuleType
from typing import Any


def names_stand(package: str, names: Container[str]) -> None:
    """Let `names` of a package be what its modules of the same names define under them, whenever those are imported.

    For importing a module binds it in its package: without this, `fastnn.info` would be the function or the module,
    depending on what else has been imported.
    """

    class Package(ModuleType):
        def __setattr__(self, name: str, value: Any) -> None:
            if isinstance(value, ModuleType) and name in names:
                value = getattr(value, name)
            super().__setattr__(name, value)

        def __reduce__(self) -> Any:
            """As pickles of functions that mention it hold a module: by its name."""
            return importlib.import_module, (self.__name__,)

    sys.modules[package].__class__ = Package
