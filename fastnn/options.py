"""Checks of arguments that are numbers and switches, and how values are quoted in errors."""

from __future__ import annotations

import math
import operator
from typing import Any, SupportsIndex

import numpy as np


def whole_number(title: str, name: str, value: Any) -> int:
    """`value` as an int."""
    if type(value) is int:
        return value
    if isinstance(value, (bool, np.bool_, np.ndarray)) or not hasattr(value, "__index__"):
        raise TypeError(f"{title}: {name} is {short(value)} of type {type(value).__name__}; expected an int")
    return operator.index(value)


def checked_word(title: str, name: str, value: object, bits: int = 64) -> int:
    """An unsigned number of so many bits, such as a seed."""
    expected = f"expected an int from 0 to 2^{bits} - 1"
    if type(value) is int:
        number = value
    elif isinstance(value, SupportsIndex) and not isinstance(value, (bool, np.bool_, np.ndarray)):
        number = operator.index(value)
    else:
        raise TypeError(f"{title}: {name} is {value!r} of type {type(value).__name__}; {expected}")
    if not 0 <= number < 2**bits:
        raise ValueError(f"{title}: {name} is {number}; {expected}")
    return number


def checked_axis(title: str, axis: object, name: str, ndim: int) -> int:
    """`axis` of the array `name`, counted from the front."""
    index = whole_number(title, "axis", axis)
    if ndim == 0:
        raise ValueError(f"{title}: {name} has no axes; expected at least one")
    if not -ndim <= index < ndim:
        raise ValueError(f"{title}: axis is {index}; expected {-ndim} to {ndim - 1}, for {name} has {ndim} axes")
    return index % ndim


def real_number(
    title: str,
    name: str,
    value: Any,
    *,
    low: float = -math.inf,
    above: float = -math.inf,
    high: float = math.inf,
    below: float = math.inf,
    infinite: bool = False,
) -> float:
    """`value` as a float within the bounds: at least `low`, more than `above`, at most `high`, less than `below`."""
    if type(value) is float:
        number = value
    else:
        if isinstance(value, (str, bytes, bool, np.bool_, complex, np.complexfloating)) or not hasattr(
            value, "__float__"
        ):
            raise TypeError(f"{title}: {name} is {short(value)}, {kind(value)}; expected a real number")
        if np.ndim(value) != 0:
            raise TypeError(f"{title}: {name} is an array of shape {np.shape(value)}; expected a real number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
    inside = low <= number <= high and (number > above or above == -math.inf) and (number < below or below == math.inf)
    if inside and (infinite or math.isfinite(number)):
        return number
    bounds = [
        *(["finite"] if not infinite else []),
        *([f"at least {low:g}"] if low != -math.inf else []),
        *([f"above {above:g}"] if above != -math.inf else []),
        *([f"at most {high:g}"] if high != math.inf else []),
        *([f"below {below:g}"] if below != math.inf else []),
    ]
    raise ValueError(f"{title}: {name} is {short(value)}; expected a number that is {' and '.join(bounds)}")


def flag(title: str, name: str, value: Any) -> bool:
    """An option that is on or off, as a bool; numbers are more likely an argument in the wrong place."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise TypeError(f"{title}: {name} is {short(value)} of type {type(value).__name__}; expected True or False")


def short(value: Any) -> str:
    """repr(value), on one line and cut where it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def kind(value: Any) -> str:
    """What a value is, in words: "None", "a list", "an int"."""
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
