"""The contenders. A rival that is not installed is left out and named, never silently replaced."""

from __future__ import annotations

import importlib
from collections.abc import Iterable

from ..problems.base import check_choice
from .base import Rival

RIVALS = {
    "numpy": "numpy_",
    "scipy": "scipy_",
    "numexpr": "numexpr_",
    "torch": "torch_",
    "jax": "jax_",
    "onnxruntime": "onnxruntime_",
}


def load(names: Iterable[str] | None, threads: int) -> tuple[list[Rival], dict[str, str]]:
    """The rivals that can run here, and for each of the others the reason why it cannot."""
    wanted = tuple(RIVALS) if names is None else check_choice("rival", names, RIVALS)
    ready: list[Rival] = []
    missing: dict[str, str] = {}
    for name in wanted:
        try:
            ready.append(importlib.import_module(f".{RIVALS[name]}", __package__).make(threads))
        except ImportError as error:
            missing[name] = f"not installed ({error})"
        except Exception as error:  # a rival that is broken must not take the run down with it
            missing[name] = f"cannot run here ({type(error).__name__}: {error})"
    return ready, missing
