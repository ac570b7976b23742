"""What a kind of step is: a row that says how it is checked, how it is run, and what it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from fastnn import functions as _functions
from fastnn.infer.graph import Array, Shape, Step

functions: Any = _functions  # what it offers it lists itself
Call = tuple[Callable[..., Any], list[Any]]
Constants = dict[str, Array]  # by their role in the step
Function = Callable[..., Any]  # (*inputs, out, *scratch)
Room = tuple[Shape, np.dtype[Any]]


class At(Protocol):
    """An array of the session, or a place that the caller's will take: of a value, in a shape."""

    def __call__(self, value: int, shape: Shape) -> Any: ...


class Site(NamedTuple):
    """Where a step is done: step number `place`, for a batch of that size, 1 or more."""

    step: Step
    place: int
    constants: Constants
    dtype: np.dtype[Any]
    batch: int
    at: At
    packed: Constants  # of the session: weights in another order than their own, under their names
    rooms: list[Array]  # the scratch arrays

    def x(self, number: int = 0, shape: Shape | None = None) -> Any:
        """An input, in the shape in which the step sees it or in another, which includes the batch."""
        return self.at(self.step.inputs[number], shape or (self.batch, *self.step.inputs_as[number]))

    def y(self, shape: Shape | None = None) -> Any:
        """The result, likewise."""
        return self.at(self.place + 1, shape or (self.batch, *self.step.shape))


def _no_room(step: Step, wide: np.dtype[Any]) -> list[Room]:
    return []


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of step."""

    function: Callable[[Step, Constants], Function]
    """`f(*inputs, out, *scratch)` by public functions, which check everything; out and scratch may be None."""
    kernel: Callable[[Site], Call | list[Call]] | None = None
    """A kernel and its arguments, or several in order, all of which are known to be right; None: by the function."""
    scratch: Callable[[Step, np.dtype[Any]], list[Room]] = _no_room
    """Of a step, and the dtype of statistics: arrays that it needs beside input and result, as of one sample."""
    fuses: bool = False  # applies an activation to its result while that is in the cache
    in_place: bool = False  # may write over its input
