"""Max ULP of any contender against the table's oracle: on the benchmark's own numbers and on a stress sample."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.oracle import mp, numpy64, to_float64

from .cases import Array, Buffers, Case, aligned, dtype_of, expected_backward, expected_forward

F64 = npt.NDArray[np.float64]

OWN = 65_536  # how many of the benchmark's own numbers are judged
NEAR_ZERO = 2.0**-22  # absolute error allowed where the derivative itself crosses zero
BITS = {"float32": (24, -126), "float64": (53, -1022), "float16": (11, -14), "bfloat16": (8, -126)}  # precision, emin


@dataclass(frozen=True, slots=True)
class Judged:
    """Worst error in units in the last place; infinite where a finite result came out NaN or infinite."""

    sample: float
    stress: float
    worst_at: float  # the input of the worst error

    def as_dict(self) -> dict[str, Any]:
        return {"ulp_sample": self.sample, "ulp_stress": self.stress, "worst_at": self.worst_at}


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


class Judge:
    """Inputs and true results of one op, direction and dtype; judges the output of any contender."""

    def __init__(self, case: Case, x: Array, dy: Array) -> None:
        kind = dtype_of(case.dtype)
        few = case.dtype == "float64"  # judged in arbitrary precision, so on fewer numbers
        own, stress = x[: 512 if few else OWN], stress_values(case.dtype)[:: 16 if few else 1]
        self.own = own.size
        self.case = Case(case.op, case.direction, case.dtype, own.size + stress.size)
        self.possible = not few or importlib.util.find_spec("mpmath") is not None
        self.x, self.dy, self.out, self.scratch = (aligned(self.case.size, kind) for _ in range(4))
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
            self.saved = aligned(self.case.size, kind)
            with np.errstate(all="ignore"):
                self.saved[:] = expected_forward(row, wide, params)
        saved = self.saved.astype(np.float64)
        slope = self.dy.astype(np.float64)
        self.want = to_float64(expected_backward(row, slope, saved, params, m)) if self.possible else wide
        self.exempt = row.near_zero(saved, params)

    def buffers(self) -> Buffers:
        self.out.fill(0)
        return Buffers(self.x, self.dy, self.saved, self.out, self.scratch, self.case.params)

    def judge(self, got: Array) -> Judged | None:
        if not self.possible:
            return None
        error = ulp(np.asarray(got).astype(np.float64), self.want, self.case.dtype)
        with np.errstate(all="ignore"):
            allowed = NEAR_ZERO * np.abs(self.dy.astype(np.float64))
            error[self.exempt & (np.abs(got.astype(np.float64) - self.want) <= allowed)] = 0
        return Judged(
            sample=float(error[: self.own].max(initial=0)),
            stress=float(error[self.own :].max(initial=0)),
            worst_at=float(self.x[int(error.argmax())]),
        )


def ulp(got: F64, want: F64, dtype: str) -> F64:
    """|got - want| in units in the last place of `want`; subnormal results may be one smallest normal number off."""
    precision, emin = BITS[dtype]
    smallest = 2.0**emin
    largest = (2 - 2.0 ** (1 - precision)) * 2.0 ** (2 - emin - 1)
    with np.errstate(all="ignore"):
        want = np.where(np.abs(want) > largest * (1 + 2.0**-precision), np.copysign(np.inf, want), want)
        _, exponent = np.frexp(np.maximum(np.abs(want), smallest))
        unit = np.exp2(np.maximum(exponent - precision, emin - precision + 1).astype(np.float64))
        difference = np.abs(got - want)
        error = np.where((np.abs(want) < smallest) & (difference <= smallest), 0, difference / unit)
        same = (got == want) | (np.isnan(got) & np.isnan(want))
        # where the true result is beyond the largest number, the largest number itself is one step away
        edge = np.isinf(want) & (np.abs(got) >= largest) & (np.sign(got) == np.sign(want))
    error = np.where(np.isnan(error), np.inf, error)
    return np.asarray(np.where(same, 0, np.where(edge, np.minimum(error, 1), error)), np.float64)
