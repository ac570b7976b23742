"""Libraries that fastnn uses where they are installed: imported when they are needed, never by `import fastnn`."""

from __future__ import annotations

import importlib
from typing import Any


def need(module: str, purpose: str, extra: str) -> Any:
    """The module; where it is not installed, an ImportError that says what for and how to get it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.split(".")[0]
        if (error.name or "").split(".")[0] != package:  # it is there, and lacks something of its own
            raise
        raise ImportError(f'{purpose} needs {package}: pip install "fastnn[{extra}]"') from None
