"""Max ULP of any contender against the table's oracle: on the benchmark's own numbers and on a stress sample."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

import numpy as np

from fastnn.oracle import mp, numpy64, to_float64

from ..problems.activations import Case, expected_backward, expected_forward
from ..problems.base import Array, Buffers, Judge, aligned, dtype_of
from . import Judged, ulp

NEAR_ZERO = 2.0**-22  # absolute error allowed where the derivative itself crosses zero


def stress_values(dtype: str) -> Array:
    """Finite bit patterns in even steps over the whole range of the format, then the tails and the bend, densely."""
    kind = dtype_of(dtype)
    unsigned = np.dtype(f"u{kind.itemsize}")
    patterns = np.linspace(0, float(np.iinfo(unsigned).max), 4099).astype(np.float64)
    bits = np.minimum(patterns, float(np.iinfo(unsigned).max) * (1 - 2.0**-52)).astype(unsigned).view(kind)
    with np.errstate(all="ignore"):
        finite = bits[np.isfinite(bits.astype(np.float64))]
        lines = np.concatenate([np.linspace(-110, 110, 2048), np.linspace(-9, 9, 2048)]).astype(kind)
    return np.concatenate([finite, lines])


class OpJudge(Judge):
    """Inputs and true results of one op, direction and dtype; judges the output of any contender."""

    problem: Case

    def __init__(self, case: Case, x: Array, dy: Array) -> None:
        kind = dtype_of(case.dtype)
        few = case.dtype == "float64"  # judged in arbitrary precision, so on fewer numbers
        own, stress = x[: 512 if few else x.size], stress_values(case.dtype)[:: 16 if few else 1]
        self.own = own.size
        self.problem = Case(case.op, case.direction, case.dtype, own.size + stress.size)
        self.possible = not few or importlib.util.find_spec("mpmath") is not None
        self.x, self.dy, self.out, self.scratch = (aligned(self.problem.size, kind) for _ in range(4))
        self.x[:] = np.concatenate([own, stress])
        # dy = 1 on the stress sample: it must not lift a result out of the subnormal range, where the promise is weaker
        self.dy[:] = np.concatenate([dy[: own.size], np.ones(stress.size, kind)])
        self.saved = self.x
        row, params = case.row, case.params
        wide = self.x.astype(np.float64)
        m = mp() if few and self.possible else numpy64
        if case.direction == "forward":
            self.want = to_float64(expected_forward(row, wide, params, m)) if self.possible else wide
            self.exempt = np.zeros(wide.size, bool)
            return
        if row.saves == "output":
            self.saved = aligned(self.problem.size, kind)
            with np.errstate(all="ignore"):
                self.saved[:] = expected_forward(row, wide, params)
        saved = self.saved.astype(np.float64)
        slope = self.dy.astype(np.float64)
        self.want = to_float64(expected_backward(row, slope, saved, params, m)) if self.possible else wide
        self.exempt = row.near_zero(saved, params)

    def buffers(self) -> Buffers:
        self.out.fill(0)
        return Buffers(
            x=self.x, dy=self.dy, saved=self.saved, out=self.out, scratch=self.scratch, params=self.problem.params
        )

    def judge(self, got: Sequence[Array | None], exact: bool = True) -> Judged | None:
        """Of (dx, dparameter) the first is judged."""
        if not self.possible or got[0] is None:
            return None
        result = got[0].astype(np.float64)
        error = ulp(result, self.want, self.problem.dtype)
        with np.errstate(all="ignore"):
            allowed = NEAR_ZERO * np.abs(self.dy.astype(np.float64))
            error[self.exempt & (np.abs(result - self.want) <= allowed)] = 0
        return Judged(
            sample=float(error[: self.own].max(initial=0)),
            stress=float(error[self.own :].max(initial=0)),
            worst_at=float(self.x[int(error.argmax())]),
        )

    def agrees(self, got: Sequence[Array | None], exact: bool = True) -> bool:
        if got[0] is None:
            return False
        result, want = got[0][: self.own].astype(np.float64), self.want[: self.own]
        return bool(np.allclose(result, want, rtol=2e-3, atol=1e-4))
