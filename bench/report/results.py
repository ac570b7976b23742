"""Result files: read, checked, and brought to the present format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Result = dict[str, Any]

FORMATS = (1, 2)
ACTIVATIONS = "activations"


def load(path: Path) -> Result:
    """A result file; ValueError that says what is wrong with it."""
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(data, dict) or not {"format", "machine", "results", "accuracy", "c1"} <= data.keys():
        raise ValueError(f"{path} is not a result file of fastnn bench")
    if data["format"] not in FORMATS:
        known = " and ".join(map(str, FORMATS))
        raise ValueError(f"{path} has format {data['format']}, this version of fastnn reads formats {known}")
    return _upgraded(data) if data["format"] == 1 else data


def _upgraded(data: Result) -> Result:
    """Format 1 knew activations only, and called a problem by its number of elements."""
    for cell in data["results"]:
        cell |= {"family": ACTIVATIONS, "label": f"{cell['size']:,}", "main": cell["size"] == 1_000_000}
    for found in data["accuracy"]:
        found["family"] = ACTIVATIONS
    data["settings"]["families"] = [ACTIVATIONS]
    return data | {"format": FORMATS[-1]}
