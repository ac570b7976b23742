"""How much has to be installed to run a saved network: a package and all that it requires."""

from __future__ import annotations

import importlib
import re
from importlib import metadata
from typing import Any

PACKAGES = ("fastnn", "onnxruntime", "torch", "numpy")


def sizes() -> dict[str, int]:
    """Bytes of each library that is installed, its requirements included; a shared one counts for each."""
    return {name: size for name in PACKAGES if (size := sum(_own(each) for each in _needed(name)))}


def _needed(name: str) -> set[str]:
    """The package and what it requires here, extras left out."""
    markers: Any = importlib.import_module("packaging.markers")
    found: set[str] = set()
    waiting = [name]
    while waiting:
        package = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if package in found:
            continue
        try:
            requires = metadata.requires(package) or []
        except metadata.PackageNotFoundError:
            continue
        found.add(package)
        for line in requires:
            requirement, _, marker = line.partition(";")
            wanted = re.match(r"[\w.-]+", requirement.strip())
            if wanted and (not marker.strip() or markers.Marker(marker).evaluate({"extra": ""})):
                waiting.append(wanted[0])
    return found


def _own(package: str) -> int:
    files = metadata.files(package) or []
    kept = (file for file in files if file.suffix != ".pyc")
    return sum(file.size or 0 for file in kept)
