"""Numbers as bytes: scales and zero points, weights, tables."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastnn.infer.graph import Array
from fastnn.infer.steps.quantized_kind import sums_fit


class Affine(NamedTuple):
    """A byte q stands for scale (q - zero)."""

    scale: float  # a float32
    zero: int

    def quantized(self, x: float) -> int:
        """The byte nearest to x."""
        return int(np.clip(np.rint(x / self.scale) + self.zero, 0, 255))

    def values(self) -> Array:
        """What the 256 bytes stand for, in float64."""
        return (np.arange(256) - self.zero) * float(self.scale)


def affine(low: float, high: float) -> Affine:
    """Bytes for numbers from low to high, and for 0, exactly: what padding and rectifiers need."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32((high - low) / 255)
    if not scale > 1e-30 or not np.isfinite(scale):
        scale = np.float32(1)
    return Affine(float(scale), int(np.clip(np.rint(-low / float(scale)), 0, 255)))


class Weights(NamedTuple):
    """int8 weights with a scale for each output, and the bias as the sums of products take it."""

    weight: Array
    scale: Array  # float64
    bias: Array  # int32


def quantized_weights(weight: Array, bias: Array | None, x: Affine | None) -> Weights | None:
    """weight (O, ...) and bias (O,) beside an input; None where a sum might leave int32.

    weight = scale q, q from -127 to 127, scale = max |weight| / 127, by outputs. The bias counts in steps of scale
    times that of x, and holds - zero sum(q) too. A scale is raised where the bias would not fit otherwise. Without x
    there is no bias.
    """
    rows = weight.reshape(len(weight), -1).astype(np.float64)
    given = np.zeros(len(rows)) if bias is None else bias.astype(np.float64)
    scale = np.abs(rows).max(1) / 127
    step = 1.0 if x is None else x.scale
    if x is not None:
        scale = np.maximum(scale, np.abs(given) / (step * 2.0**30))
    scale = np.where(scale > 0, scale, 1.0)
    q = np.rint(rows / scale[:, None]).astype(np.int8)
    sums = q.sum(1, dtype=np.int64)
    whole = np.zeros(len(rows)) if x is None else np.rint(given / (scale * step)) - x.zero * sums
    if not sums_fit(q, whole) or not np.isfinite(scale * step).all():
        return None
    return Weights(q.reshape(weight.shape), scale, whole.astype(np.int32))


class Sum(NamedTuple):
    """The numbers of a + b: see `add` in kernels/reference/quantized.py."""

    by_a: int
    by_b: int
    bias: int
    multiplier: float


def added(a: Affine, b: Affine, y: Affine) -> Sum:
    """Factors of 15 bits, whose common power of two is the multiplier."""
    factors = a.scale / y.scale, b.scale / y.scale
    power = 15 - math.frexp(max(factors))[1]
    power = max(-60, min(power, 60))
    by_a, by_b = (min(32767, round(math.ldexp(factor, power))) for factor in factors)
    return Sum(by_a, by_b, -by_a * a.zero - by_b * b.zero, math.ldexp(1.0, -power))


def table(function: Callable[[Array], Array], x: Affine, y: Affine) -> Array:
    """The 256 bytes of a function of one number."""
    with np.errstate(all="ignore"):
        values = np.asarray(function(x.values()), np.float64)
        whole: Array = np.clip(np.rint(np.nan_to_num(values / y.scale)) + y.zero, 0, 255).astype(np.uint8)
    return whole


def sqnr(reference: float, error: float) -> float:
    """Signal to quantization noise in dB, of sums of squares."""
    return math.inf if error == 0 else -math.inf if reference == 0 else 10 * math.log10(reference / error)


def number(value: Any) -> float:
    """A float32 as a Python float."""
    return float(np.float32(value))
