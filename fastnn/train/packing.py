"""State as nested dicts and lists, taken apart into what JSON holds and what are arrays, and put together again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def pack(tree: Any) -> tuple[Any, dict[str, Array]]:
    """The tree with a mark in the place of each array, and the arrays by their path in it.

    Keys become strings, tuples lists; numbers that JSON has no word for (NaN, infinities) are marked too. TypeError,
    naming the path, for anything that is neither a number, text, bool, None, array, dict, list nor tuple.
    """
    arrays: dict[str, Array] = {}

    def packed(value: Any, path: str) -> Any:
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, np.ndarray):
            arrays[path] = value
            return {"$array": path}
        if isinstance(value, float) and not math.isfinite(value):
            return {"$float": str(value)}
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, Mapping):
            return {str(key): packed(each, f"{path}/{key}" if path else str(key)) for key, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [packed(each, f"{path}/{k}") for k, each in enumerate(value)]
        raise TypeError(
            f"checkpoint: {path} is of type {type(value).__name__}; "
            "expected numbers, texts, arrays, and dicts and lists of them"
        )

    return packed(tree, ""), arrays


def unpack(tree: Any, arrays: Mapping[str, Array]) -> Any:
    """What `pack` was given; KeyError for an array that is missing."""
    if isinstance(tree, dict):
        if tree.keys() == {"$array"}:
            return arrays[tree["$array"]]
        if tree.keys() == {"$float"}:
            return float(tree["$float"])
        return {key: unpack(value, arrays) for key, value in tree.items()}
    if isinstance(tree, list):
        return [unpack(value, arrays) for value in tree]
    return tree
