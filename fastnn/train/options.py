"""Checks of what `fit` is given."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastnn.arguments import whole_number
from fastnn.train.callbacks import Callback, EarlyStopping
from fastnn.train.monitor import Monitor

_LOOKS = 20  # of the monitor in a run, where it is not said how many


def checked(name: str, value: Any, *kinds: type) -> Any:
    """`value`, which must be None or of one of these kinds."""
    if value is not None and not isinstance(value, kinds):
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise TypeError(f"fit: {name} is of type {type(value).__name__}; expected one of fnn's kind {wanted}")
    return value


def positive(name: str, value: Any) -> int:
    """`value` as an int of 1 or more."""
    number = whole_number("fit", name, value)
    if number < 1:
        raise ValueError(f"fit: {name} is {number}; expected 1 or more")
    return number


def ordered_callbacks(
    early_stopping: EarlyStopping | int | None,
    callbacks: Iterable[Callback],
    monitor: Monitor | int | bool | None,
    steps: int,
) -> list[Callback]:
    """In the order in which they are called: the monitor, those of the user, early stopping."""
    if not isinstance(callbacks, Iterable):
        raise TypeError(
            f"fit: callbacks is of type {type(callbacks).__name__}; expected a sequence of Callback objects"
        )
    own = [checked("callbacks", callback, Callback) for callback in callbacks]
    if monitor is None or monitor is True:
        own.insert(0, Monitor(max(1, steps // _LOOKS)))
    elif isinstance(monitor, Monitor):
        own.insert(0, monitor)
    elif monitor is not False:
        own.insert(0, Monitor(positive("monitor", monitor)))
    if isinstance(early_stopping, EarlyStopping):
        own.append(early_stopping)
    elif early_stopping is not None:
        own.append(EarlyStopping(positive("early_stopping", early_stopping)))
    return own
