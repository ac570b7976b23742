"""Images in blocks of 16 channels, (N, ceil(C / 16), H, W, 16) of float32: how weights lie beside them, and the steps
of kernels.cpu.blocked. Nothing is checked here: sessions know their arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.kernels.cpu.blocked import Step

Array = npt.NDArray[Any]
CHANNELS = 16
_KINDS = "conv", "depthwise", "max_pool", "avg_pool", "block", "unblock"
_BOUNDS = {None: (-np.inf, np.inf), "relu": (0.0, np.inf), "relu6": (0.0, 6.0)}  # activations done in registers


def pack(weight: Array, groups: int = 1) -> Array:
    """The weights of a convolution, (O, I / groups, kH, kW), as (blocks of results, terms, 16).

    The blocks are those of each group. The terms are in the order in which they are summed up: blocks of 16 inputs, in
    them rows, columns of the kernel, then inputs. A depthwise convolution has its own, (C, 1, kH, kW), and one group.
    """
    outputs, inputs, rows, cols = weight.shape
    each = outputs // groups
    blocks = -(-each // CHANNELS)
    padded = np.zeros((groups, blocks * CHANNELS, inputs, rows, cols), weight.dtype)
    padded[:, :each] = weight.reshape(groups, each, inputs, rows, cols)
    parts = (padded[:, :, k : k + CHANNELS].transpose(0, 1, 3, 4, 2) for k in range(0, inputs, CHANNELS))
    terms = [part.reshape(groups, blocks, CHANNELS, -1) for part in parts]
    packed = np.concatenate(terms, axis=-1).transpose(0, 1, 3, 2)
    return np.ascontiguousarray(packed.reshape(groups * blocks, -1, CHANNELS))


def pack_channels(values: Array, groups: int = 1) -> Array:
    """One number a channel of the result, as (blocks of results, 16)."""
    each = len(values) // groups
    padded = np.zeros((groups, -(-each // CHANNELS) * CHANNELS), values.dtype)
    padded[:, :each] = values.reshape(groups, each)
    return padded.reshape(-1, CHANNELS)


def step(
    kind: str,
    x_shape: Sequence[int],
    y_shape: Sequence[int],
    kernel: Sequence[int] = (1, 1),
    stride: Sequence[int] = (1, 1),
    before: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    *,
    groups: int = 1,
    planes: bool = False,
    pool: bool = False,
    adds: bool = False,
    weight: Array | None = None,
    bias: Array | None = None,
    counts: tuple[Array | None, Array | None] = (None, None),
    activation: tuple[str, Sequence[float]] | None = None,
) -> Step:
    """A step for arrays of these shapes; its `operation` takes one or two inputs, then the result.

    kind: "conv", "depthwise", "max_pool", "avg_pool"; "block" and "unblock" turn (N, C, H, W) into blocks, and back
    x_shape, y_shape: (N, C, H, W), whatever the layout
    kernel, stride, before, dilation: of rows and columns; before is the padding in front
    groups, planes: of "conv"; planes says that x is (N, C, H, W), else it lies in blocks
    pool: of "conv" and "depthwise": the result is the maxima over squares of 2 by 2 of what has y_shape
    adds: a second input, of the layout of y, is added before the activation; in a "conv" it may be y, if that has an
        even width
    weight, bias: packed as above; counts: of "avg_pool", the factors of each row's and each column's divisor, float64
    activation: name and parameters, or None
    """
    geometry = np.array(
        [x_shape[0], groups, *x_shape[1:], *y_shape[1:], *kernel, *stride, *before, *dilation], np.int64
    )
    name, given = (None, ()) if activation is None else activation
    low, high = _BOUNDS.get(name, _BOUNDS[None])
    loop = None if name is None or name in _BOUNDS else (name.encode(), np.array(given, np.float32))
    taps = np.empty(kernel[0] * kernel[1], np.int64)
    which = _KINDS.index(kind)
    return Step(which, geometry, planes, pool, adds, taps, weight, bias, *counts, low, high, loop)
