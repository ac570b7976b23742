"""What one row of the table of functions consists of, `Function`, and the decorator that ties it to its function.

An activation is elementwise and its row (`fastnn.op.Op`) is enough to make the function. The functions that these rows
are about have shapes, options and several results: each is written out in `fastnn.functions`, and gets its
documentation, tests and benchmarks from its row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

_F = TypeVar("_F", bound=Callable[..., Any])

ROLES = ("array", "parameter", "option")


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One argument, or one result, of a public function."""

    name: str
    doc: str  # what it is: shape, unit, valid range
    role: str = "option"  # "array": of the dtype computed on; "parameter": of the dtype computed in; "option": neither

    def __post_init__(self) -> None:
        """Check the role."""
        if self.role not in ROLES:
            raise ValueError(f"{self.name}: role is {self.role!r}, expected one of {', '.join(map(repr, ROLES))}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One public function: everything that documentation, tests and benchmarks need to know about it.

    `oracle` takes the function's arguments by keyword, arrays in float64, and returns its results in float64 by the
    textbook's formula; it changes none of its arguments. `examples` are arguments worth testing.

    The promise is `ulp`, for each result: its largest error in units in the last place of `scale`, of the exact result
    itself where that is None. `gradients` takes the gradients of the results and the arguments, and returns those of
    the arguments by name, computed by the public backward function.
    """

    name: str
    family: str
    title: str
    formula: str
    arguments: tuple[Argument, ...]
    returns: tuple[Argument, ...]
    source: str
    notes: tuple[str, ...] = ()
    oracle: Callable[..., Any]
    examples: Callable[[np.random.Generator], Iterable[dict[str, Any]]]
    ulp: float | tuple[float, ...]
    scale: Callable[..., Any] | None = None
    out_result: int = 0  # which of the results goes to `out`
    gradient_of: str | None = None
    gradients: Callable[..., dict[str, Any]] | None = None
    bytes: str
    operations: str

    @property
    def ulps(self) -> tuple[float, ...]:
        """The promise for each result."""
        return self.ulp if isinstance(self.ulp, tuple) else (self.ulp,) * len(self.returns)


def public(row: Function) -> Callable[[_F], _F]:
    """The decorator of the public function of a row: its documentation, and `fastnn` as its home."""
    from fastnn.docstrings import function_doc

    def decorate(function: _F) -> _F:
        function.__doc__ = function_doc(row, function)
        function.__module__ = "fastnn"
        return function

    return decorate
