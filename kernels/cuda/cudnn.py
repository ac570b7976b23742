"""Convolutions by cuDNN, through those versions of CuPy that have it: up to 13.

float32 and float64 only, as cuDNN would round 16-bit sums before the bias is added, and padding alike on both sides.
Tensor cores, which would round float32 to fewer bits, and algorithms whose sums have no order are ruled out. What is
not done here returns False.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

Array = Any
Pair = tuple[int, int]


@functools.cache
def _library() -> Any:
    try:
        return importlib.import_module("cupy.cudnn")
    except ImportError:
        return None


def _known(x: Array, weight: Array, y: Array, stride: Pair, padding: Pair, dilation: Pair) -> bool:
    if x.dtype.name not in ("float32", "float64") or _library() is None or 0 in (x.size, y.size):
        return False
    spans = [(size - 1) * gap + 1 for size, gap in zip(weight.shape[2:], dilation, strict=True)]
    padded = [length + 2 * before for length, before in zip(x.shape[2:], padding, strict=True)]
    sizes = [(length - span) // step + 1 for length, span, step in zip(padded, spans, stride, strict=True)]
    return sizes == list(y.shape[2:])


def forward(x: Array, weight: Array, y: Array, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> bool:
    """y = the convolution of x with weight."""
    if not _known(x, weight, y, stride, padding, dilation):
        return False
    options = {"auto_tune": False, "tensor_core": "never"}
    _library().convolution_forward(x, weight, None, y, padding, stride, dilation, groups, **options)
    return True


def input_gradient(
    dy: Array, weight: Array, dx: Array, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> bool:
    """dx = the gradient by the input."""
    if not _known(dx, weight, dy, stride, padding, dilation):
        return False
    options = {"deterministic": True, "auto_tune": False, "tensor_core": "never"}
    _library().convolution_backward_data(weight, dy, None, dx, padding, stride, dilation, groups, **options)
    return True


def weight_gradient(
    dy: Array, x: Array, dweight: Array, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> bool:
    """dweight = the gradient by the weights."""
    if not _known(x, dweight, dy, stride, padding, dilation):
        return False
    options = {"deterministic": True, "auto_tune": False, "tensor_core": "never"}
    _library().convolution_backward_filter(x, dy, dweight, padding, stride, dilation, groups, **options)
    return True
