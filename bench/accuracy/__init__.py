"""The error of any contender against the op table's oracles, in units in the last place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

BITS = {"float32": (24, -126), "float64": (53, -1022), "float16": (11, -14), "bfloat16": (8, -126)}  # precision, emin


@dataclass(frozen=True, slots=True)
class Judged:
    """Worst error in units in the last place; infinite where a finite result came out NaN or infinite."""

    sample: float  # on numbers as they come in practice
    stress: float | None = None  # on a sample with the tails, where there is one
    worst_at: float | str = ""  # the input, or the name of the result, with the worst error

    def as_dict(self) -> dict[str, Any]:
        return {"ulp_sample": self.sample, "ulp_stress": self.stress, "worst_at": self.worst_at}


def ulp(got: F64, want: F64, dtype: str, scale: F64 | None = None) -> F64:
    """|got - want| in units in the last place of `scale`, by default of `want` itself.

    Results below the smallest normal number may be that number off.
    """
    precision, emin = BITS[dtype]
    smallest = 2.0**emin
    largest = (2 - 2.0 ** (1 - precision)) * 2.0 ** (2 - emin - 1)
    with np.errstate(all="ignore"):
        want = np.where(np.abs(want) > largest * (1 + 2.0**-precision), np.copysign(np.inf, want), want)
        _, exponent = np.frexp(np.maximum(np.abs(want if scale is None else scale), smallest))
        unit = np.exp2(np.maximum(exponent - precision, emin - precision + 1).astype(np.float64))
        difference = np.abs(got - want)
        error = np.where((np.abs(want) < smallest) & (difference <= smallest), 0, difference / unit)
        same = (got == want) | (np.isnan(got) & np.isnan(want))
        # where the true result is beyond the largest number, the largest number itself is one step away
        edge = np.isinf(want) & (np.abs(got) >= largest) & (np.sign(got) == np.sign(want))
    error = np.where(np.isnan(error), np.inf, error)
    return np.asarray(np.where(same, 0, np.where(edge, np.minimum(error, 1), error)), np.float64)
