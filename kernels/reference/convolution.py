"""Convolutions in plain NumPy: the oracle in float64, rounded once to float32 and from that to the 16-bit formats."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.kernels.reference.rounding import store, widen
from fastnn.table.convolution import Sums, activated

Array = npt.NDArray[Any]
Pair = tuple[int, int]


def forward(
    x: Array,
    weight: Array,
    bias: Array | None,
    y: Array,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    activation: str | None,
    params: tuple[float, ...],
    before: Array | None,
) -> None:
    """y = activation(z), z = the convolution of x with weight, + bias; padding is that before the first row and column.

    `before` receives z, unless it is None.
    """
    with np.errstate(all="ignore"):
        z = _sums(x, weight, y, stride, padding, dilation, groups).forward(widen(x))
        if bias is not None:
            z += bias.astype(np.float64)[:, None, None]
        if before is not None:
            store(z, before)
        store(z if activation is None else activated(z, (activation, *params)), y)


def input_gradient(
    dy: Array, weight: Array, dx: Array, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> None:
    """dx = the gradient of the convolution's sum over dy by its input."""
    with np.errstate(all="ignore"):
        store(_sums(dx, weight, dy, stride, padding, dilation, groups).input_gradient(widen(dy)), dx)


def weight_gradient(
    dy: Array, x: Array, dweight: Array, stride: Pair, padding: Pair, dilation: Pair, groups: int, accumulate: bool
) -> None:
    """dweight = the gradient by the weights, which is added to what is there where `accumulate`."""
    with np.errstate(all="ignore"):
        sums = _sums(x, dweight, dy, stride, padding, dilation, groups).weight_gradient(widen(dy), widen(x))
        store(widen(dweight) + sums if accumulate else sums, dweight)


def bias_gradient(dy: Array, dbias: Array, accumulate: bool) -> None:
    """dbias = the sum of dy over images and positions, in the dtype computed in; `accumulate` as for the weights."""
    with np.errstate(all="ignore"):
        sums = widen(dy).sum(axis=(0, 2, 3))
        dbias[...] = dbias + sums if accumulate else sums


def _sums(x: Array, weight: Array, y: Array, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> Sums:
    """The sums with as much padding behind as makes y's shape of x's."""
    pairs = []
    for axis in range(2):
        reached = (y.shape[2 + axis] - 1) * stride[axis] + (weight.shape[2 + axis] - 1) * dilation[axis] + 1
        pairs.append((padding[axis], max(0, reached - padding[axis] - x.shape[2 + axis])))
    return Sums(x, widen(weight), stride, tuple(pairs), dilation, groups)
