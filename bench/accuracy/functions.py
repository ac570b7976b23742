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

    def __init__(self, spec: Spec, dtype: str) -> None:
        assert spec.judged is not None and spec.row is not None
        self.problem = FunctionProblem(replace(spec, shapes={"judged": spec.judged}), "judged", dtype)
        self.wide: Arguments = {name: widened(value) for name, value in self.problem.arguments.items()}
        self.row = spec.row
        want = self.row.oracle(**widened_arguments(self.wide))
        self.want = results(want)
        scale = None if self.row.scale is None else self.row.scale(want, **widened_arguments(self.wide))
        self.scale = [None] * len(self.want) if scale is None else results(scale)
        self.dtypes = [np.asarray(item).dtype for item in results(self.problem.trial.results)]

    def buffers(self) -> Buffers:
        return self.problem.buffers().map(np.copy)

    def judge(self, got: Sequence[Array | None], exact: bool = True) -> Judged | None:
        want: Sequence[Any] = self.want
        if not exact and self.problem.spec.random:
            if self.problem.spec.given_choices is None:
                return None
            want = self.problem.spec.given_choices(self.wide, got)
        errors = {
            index: error
            for index, pair in enumerate(zip(got, want, strict=False))
            if (error := self._error(index, *pair)) is not None
        }
        if not errors:
            return None
        worst = max(errors, key=errors.__getitem__)
        names = [result.name for result in self.row.returns]
        return Judged(sample=errors[worst], worst_at=names[min(worst, len(names) - 1)])

    def _error(self, index: int, got: Array | None, want: Any) -> float | None:
        if got is None or want is None:
            return None
        true = np.asarray(want)
        if got.shape != true.shape:
            return float("inf")
        if true.dtype.kind in "iub":
            return 0.0 if np.array_equal(got, true) else float("inf")
        name = self.dtypes[index].name
        scale = self.scale[index]
        unit = None if scale is None else np.broadcast_to(np.asarray(scale, np.float64), true.shape)
        error = ulp(got.astype(np.float64), true.astype(np.float64), name if name in BITS else "float64", unit)
        return float(error.max(initial=0))


def widened_arguments(arguments: Arguments) -> Arguments:
    """Copies again: an oracle is not to be trusted with what the next call needs."""
    return {name: widened(value) for name, value in arguments.items()}
