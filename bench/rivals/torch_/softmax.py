"""PyTorch's softmax, by ATen's kernels with `out=`."""

from __future__ import annotations

from functools import partial

from ..base import Factory
from .library import aten

FACTORIES: dict[str, Factory] = {
    "softmax": lambda b: partial(aten._softmax.out, b.x, -1, False, out=b.out),
    "log_softmax": lambda b: partial(aten._log_softmax.out, b.x, -1, False, out=b.out),
    "softmax_backward": lambda b: partial(aten._softmax_backward_data.out, b.dy, b.y, -1, b.dy.dtype, grad_input=b.out),
    "log_softmax_backward": lambda b: partial(
        aten._log_softmax_backward_data.out, b.dy, b.y, -1, b.dy.dtype, out=b.out
    ),
}
