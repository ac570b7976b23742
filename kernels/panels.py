"""The weights of linear layers in the order in which `fastnn.kernels.cpu.linear.Packed` reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_PANEL, _GROUP, _LINE = 256, 64, 64  # bytes, see kernels/cpu/packed.hpp; of a cache line


def pack(weight: Array, bias: Array | None) -> Array:
    """weight (out, in) and bias (out,) or None, float32 or float64, as one array that begins at a cache line.

    First what sums start from: the bias, or zeros, filled up with zeros to a multiple of 64 bytes. Then panels of 256
    bytes of outputs (the last one of as many as are left, filled up alike), each panel input after input.
    """
    outputs, inputs = weight.shape
    size = weight.itemsize
    panel, group = _PANEL // size, _GROUP // size
    padded, whole = -(-outputs // group) * group, outputs // panel * panel
    room = np.empty((padded * (1 + inputs)) * size + _LINE, np.uint8)
    first = -room.ctypes.data % _LINE
    packed = room[first : first + padded * (1 + inputs) * size].view(weight.dtype)
    packed[:padded] = 0
    if bias is not None:
        packed[:outputs] = bias
    panels, rest = packed[padded : padded + whole * inputs], packed[padded + whole * inputs :]
    turned = weight[:whole].reshape(whole // panel, panel, inputs).transpose(0, 2, 1)
    panels.reshape(turned.shape)[...] = turned
    if whole < outputs:
        last = rest.reshape(inputs, padded - whole)
        last[:, : outputs - whole] = weight[whole:].T
        last[:, outputs - whole :] = 0
    return packed
