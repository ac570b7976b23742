"""int8 weights in the order that the integer products read: blocks of 16 outputs, groups of 4 along the sum."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
OUTPUTS, GROUP = 16, 4


def pack(weight: Array) -> Array:
    """int8 (N, S, L), S segments of L neighbouring inputs, as (ceil(N / 16), S, ceil(L / 4), 16, 4), filled up with 0.

    64 neighbouring bytes hold four inputs of 16 outputs, which is what one dot-product instruction of AVX-512 takes,
    and halves and quarters of it those of AVX2 and NEON; the order is the same for every instruction set.
    """
    outputs, segments, length = weight.shape
    blocks, groups = -(-outputs // OUTPUTS), -(-length // GROUP)
    padded = np.zeros((blocks * OUTPUTS, segments, groups * GROUP), np.int8)
    padded[:outputs, :, :length] = weight
    return np.ascontiguousarray(padded.reshape(blocks, OUTPUTS, segments, groups, GROUP).transpose(0, 2, 3, 1, 4))


def unpack(packed: Array) -> Array:
    """int8 (outputs, S, L), with the zeros that `pack` has filled up with."""
    blocks, segments, groups, _, _ = packed.shape
    return packed.transpose(0, 3, 1, 2, 4).reshape(blocks * OUTPUTS, segments, groups * GROUP)
