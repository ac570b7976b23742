"""Measuring floating-point error in units in the last place (ULP).

What is measured depends on the exact result e, and on the derivative g where e = dy g:

- e and g normal: |got - e| / ulp(e). This is the promise of the op table. Where dy is not 1, an error of g keeps its
  size beside g in the product, while the unit may halve; the unit is then the larger of ulp(e) and |dy| ulp(g).
- e or g below the smallest normal number: |got - e| in units of that number, times max(1, |dy|); at most 1 is promised.
- the derivative near its own zero: |got - e| / |dy|, at most 2^-22 in float32 and 2^-51 in float64.
- e beyond the largest number: infinity of e's sign is right, and so is a finite result within the bound.
- e infinite or NaN: got must be the same. Every other infinity or NaN is a mismatch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Format:
    """A binary floating-point format whose results are measured."""

    dtype: type[np.floating[Any]]
    mantissa: int  # bits after the leading one
    smallest: float  # smallest normal number
    largest: float
    near_zero: float  # absolute bound near a zero of the derivative


FLOAT32 = Format(np.float32, 23, 2.0**-126, float(np.finfo(np.float32).max), 2.0**-22)
FLOAT64 = Format(np.float64, 52, 2.0**-1022, float(np.finfo(np.float64).max), 2.0**-51)


@dataclass(slots=True)
class Worst:
    """The largest error of one kind, and where it occurs."""

    error: float = 0.0
    at: float | None = None
    exact: float | None = None
    got: float | None = None
    dy: float | None = None
    params: tuple[float, ...] = ()

    def merge(self, other: Worst) -> None:
        """Keep the larger of the two."""
        if other.error > self.error or (self.at is None and other.at is not None):
            self.error, self.at, self.exact = other.error, other.at, other.exact
            self.got, self.dy, self.params = other.got, other.dy, other.params


@dataclass(slots=True)
class Tally:
    """What a sweep over many arguments has found."""

    patterns: int = 0
    mismatches: int = 0  # NaN, infinity, rounding or sign of zero wrong
    normal: Worst = field(default_factory=Worst)
    subnormal: Worst = field(default_factory=Worst)
    near_zero: Worst = field(default_factory=Worst)
    mismatch: Worst = field(default_factory=Worst)  # one example

    def merge(self, other: Tally) -> None:
        """Add another sweep's findings."""
        self.patterns += other.patterns
        self.mismatches += other.mismatches
        for kind in ("normal", "subnormal", "near_zero", "mismatch"):
            getattr(self, kind).merge(getattr(other, kind))

    def with_params(self, params: tuple[float, ...]) -> Tally:
        """A copy whose findings name the parameters they were made with."""
        kinds = ("normal", "subnormal", "near_zero", "mismatch")
        return replace(self, **{kind: replace(getattr(self, kind), params=params) for kind in kinds})


@dataclass(frozen=True, slots=True)
class Tail:
    """What float64 cannot hold of exact results, where float64 itself is measured.

    Tiny results are boosted by a power of two before anything is divided by their ULP, which would underflow.
    """

    boost: F64
    rest: F64  # (exact - value) * boost


@dataclass(frozen=True, slots=True)
class Exact:
    """Exact results, prepared once and compared with many implementations."""

    format: Format
    at: npt.NDArray[Any]
    value: F64
    tail: Tail | None
    dy: npt.NDArray[Any] | None
    scale: F64  # error times scale is in the units of its kind
    regular: bool  # every value is normal, and none is near a zero of the derivative
    subnormal: Mask
    near: Mask


def prepare(
    format: Format,
    at: npt.NDArray[Any],
    value: F64,
    *,
    gradient: F64 | None = None,
    dy: npt.NDArray[Any] | None = None,
    near: Mask | None = None,
    tail: Tail | None = None,
) -> Exact:
    """Classify exact results; those of a backward pass with a `dy` other than 1 come with it and their `gradient`."""
    with np.errstate(all="ignore"):
        size = np.abs(value)
        boosted = size if tail is None else size * tail.boost
        exponent = boosted.view(np.uint64) & np.uint64(0x7FF << 52)
        # 1 / ulp = 2^(mantissa - exponent of the value), assembled from bits; nonsense for 0, infinity and NaN, which
        # never use it.
        scale = (np.uint64((2046 + format.mantissa) << 52) - exponent).view(np.float64)
        largest = size.max(initial=0.0)
        if gradient is not None and dy is not None:
            steepness = np.abs(gradient)
            exponent = (steepness if tail is None else steepness * tail.boost).view(np.uint64) & np.uint64(0x7FF << 52)
            per_gradient = (np.uint64((2046 + format.mantissa) << 52) - exponent).view(np.float64)
            scale = np.minimum(scale, per_gradient / np.abs(dy.astype(np.float64)))
            size = np.minimum(size, steepness)
        regular = bool(size.min(initial=math.inf) >= format.smallest and largest <= format.largest)
        weight = np.ones(1) if dy is None else np.abs(dy.astype(np.float64))
        boost = np.ones(1) if tail is None else tail.boost
        if near is None:
            near = np.zeros(value.shape, bool)
        if near.any():
            regular = False
            scale = np.where(near, 1.0 / (weight * boost), scale)
        subnormal = near
        if not regular:
            subnormal = size < format.smallest
            near = near & ~subnormal
            scale = np.where(subnormal, 1.0 / (format.smallest * np.maximum(1.0, weight) * boost), scale)
    return Exact(format, at, value, tail, dy, scale, regular, subnormal, near)


def measure(exact: Exact, got: npt.NDArray[Any]) -> Tally:
    """Compare results with the exact ones."""
    tally = Tally(patterns=got.size)
    if got.size == 0:
        return tally
    with np.errstate(all="ignore"):
        error = got - exact.value
        if exact.tail is not None:
            error = error * exact.tail.boost - exact.tail.rest
        np.abs(error, out=error)
        error *= exact.scale
        if exact.regular and math.isfinite(float(error.max())):
            tally.normal = _worst(exact, got, error)
        else:
            _measure_irregular(exact, got, error, tally)
    return tally


def _measure_irregular(exact: Exact, got: npt.NDArray[Any], error: F64, tally: Tally) -> None:
    """The same with infinities, NaN and more than one kind of error."""
    value = exact.value
    wide = got.astype(np.float64)
    beyond = np.abs(value) > exact.format.largest  # infinity included
    right = (beyond & (wide == np.copysign(math.inf, value))) | (np.isnan(value) & np.isnan(wide))
    largest_ulp = 2.0 ** (math.frexp(exact.format.largest)[1] - 1 - exact.format.mantissa)
    error = np.where(beyond & np.isfinite(value) & np.isfinite(wide), np.abs(wide - value) / largest_ulp, error)
    wrong = ~right & ~np.isfinite(error)
    tally.mismatches = int(np.count_nonzero(wrong))
    tally.mismatch = _worst(exact, got, wrong.astype(np.float64))
    error = np.where(right | wrong, 0.0, error)
    tally.subnormal = _worst(exact, got, np.where(exact.subnormal, error, 0.0))
    tally.near_zero = _worst(exact, got, np.where(exact.near, error, 0.0))
    tally.normal = _worst(exact, got, np.where(exact.subnormal | exact.near, 0.0, error))


def _worst(exact: Exact, got: npt.NDArray[Any], error: F64) -> Worst:
    where = int(error.argmax())
    if error[where] == 0:
        return Worst()
    dy = None if exact.dy is None else float(exact.dy[where])
    return Worst(float(error[where]), float(exact.at[where]), float(exact.value[where]), float(got[where]), dy)
