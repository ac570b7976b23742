"""Augmentation in plain NumPy: float64, rounded once to float32 and from that to the 16-bit formats."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.kernels.reference.rounding import store, widen

Array = npt.NDArray[Any]


def mix(x: Array, permutation: Array, weights: Array, out: Array) -> None:
    """out[n] = weights[n] x[n] + (1 - weights[n]) x[permutation[n]]; out lies apart from x."""
    weight = weights.astype(np.float64).reshape(-1, *(1,) * (x.ndim - 1))
    with np.errstate(all="ignore"):
        wide = widen(x)
        store(weight * wide + (1 - weight) * wide[permutation], out)


def cutout(x: Array, out: Array, boxes: Array, fill: Array) -> None:
    """out = x (N, C, H, W), except `fill` in each sample's box (top, bottom, left, right); out may be x."""
    out[...] = x
    for image, (top, bottom, left, right) in zip(out, boxes, strict=True):
        image[:, top:bottom, left:right] = fill
