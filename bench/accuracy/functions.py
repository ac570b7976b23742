"""The error of any contender in a function of the table, counted in the unit that the function's row names.

The judge's arguments are small and of awkward sizes: the oracles are textbook formulas, and slow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..problems.base import Array, Buffers, Judge
from ..problems.functions import Arguments, FunctionProblem, Spec
from . import BITS, Judged, ulp

ANOTHER = 2.0**14  # units of float32: a thousandth


def widened(value: Any) -> Any:
    """A copy in float64: arrays of any floating dtype, those in lists too."""
    if isinstance(value, np.ndarray):
        return value.copy() if value.dtype.kind in "iub" else value.astype(np.float64)
    if isinstance(value, list):
        return [widened(item) for item in value]
    return value


def results(value: Any) -> list[Any]:
    """Results in order; one array is one result, a list of arrays several."""
    if isinstance(value, (tuple, list)):
        return [item for part in value for item in (results(part) if isinstance(part, list) else [part])]
    return [value]


class FunctionJudge(Judge):
    """Arguments and true results of one function and dtype."""

    problem: FunctionProblem

    def __init__(self, spec: Spec, dtype: str) -> None:
        assert spec.judged is not None and spec.row is not None
        self.problem = FunctionProblem(replace(spec, shapes={"judged": spec.judged}), "judged", dtype)
        self.wide: Arguments = {name: widened(value) for name, value in self.problem.arguments.items()}
        self.row = spec.row
        self.want = self.row.oracle(**widened_arguments(self.wide))
        self.dtypes = [np.asarray(item).dtype.name for item in results(self.problem.trial.results)]

    def buffers(self) -> Buffers:
        return self.problem.buffers().map(np.copy)

    def judge(self, got: Sequence[Array | None], exact: bool = True) -> Judged | None:
        want = self.want
        if not exact and self.problem.spec.random:
            if self.problem.spec.given_choices is None:
                return None
            want = tuple(self.problem.spec.given_choices(self.wide, got))
        true = results(want)
        scale = None if self.row.scale is None else self.row.scale(want, **widened_arguments(self.wide))
        units = [None] * len(true) if scale is None else results(scale)
        found = [
            (_error(one, exactly, unit, dtype), name)
            for one, exactly, unit, dtype, name in zip(
                got, true, units, self.dtypes, self._names(len(true)), strict=False
            )
            if one is not None and exactly is not None
        ]
        if not found:
            return None
        error, name = max(found)
        return Judged(sample=error, worst_at=name)

    def agrees(self, got: Sequence[Array | None], exact: bool = True) -> bool:
        verdict = self.judge(got, exact)
        return verdict is None or verdict.sample < ANOTHER

    def _names(self, count: int) -> list[str]:
        """Of the results; of a list of arrays they all have the name of the list."""
        names = [result.name for result in self.row.returns]
        return [names[min(index, len(names) - 1)] for index in range(count)]


def _error(got: Array, want: Any, scale: Any, dtype: str) -> float:
    """The largest error of one result; libraries may keep axes of length 1 that fastnn drops.

    A library that returns a coarser format than fastnn is judged by that one.
    """
    true = np.asarray(want)
    if got.size != true.size:
        return float("inf")
    got = got.reshape(true.shape)
    if true.dtype.kind in "iub":
        return 0.0 if np.array_equal(got, true) else float("inf")
    unit = None if scale is None else np.broadcast_to(np.asarray(scale, np.float64), true.shape)
    kind = min((name for name in (dtype, got.dtype.name) if name in BITS), key=lambda name: BITS[name][0])
    return float(ulp(got.astype(np.float64), true.astype(np.float64), kind, unit).max(initial=0))


def widened_arguments(arguments: Arguments) -> Arguments:
    """Copies again: an oracle is not to be trusted with what the next call needs."""
    return {name: widened(value) for name, value in arguments.items()}
