"""PyTorch's gates: ATen's glu; swiglu and maxout of the kernels they consist of."""

from __future__ import annotations

from functools import partial
from typing import Any

from ...problems.base import Buffers
from ...timing import Run
from ..base import Factory
from .library import aten, nn, torch


def swiglu(b: Buffers) -> Run:
    (x, factor), y = b.x.chunk(2, -1), b.out

    def run() -> Any:
        nn.silu(x, out=y)
        return y.mul_(factor)

    return run


def swiglu_backward(b: Buffers) -> Run:
    (x, factor), (dx, dfactor), dy = b.x.chunk(2, -1), b.out.chunk(2, -1), b.dy
    t = torch.empty_like(dy)

    def run() -> Any:
        nn.silu(x, out=t)
        torch.mul(dy, t, out=dfactor)
        torch.mul(dy, factor, out=t)
        aten.silu_backward.grad_input(t, x, grad_input=dx)
        return b.out

    return run


def maxout(b: Buffers) -> Run:
    return partial(torch.maximum, b.x[:, ::2], b.x[:, 1::2], out=b.out)


def maxout_backward(b: Buffers) -> Run:
    first, second = b.x[:, ::2], b.x[:, 1::2]
    dfirst, dsecond, dy = b.out[:, ::2], b.out[:, 1::2], b.dy

    def run() -> Any:
        torch.mul(dy, first >= second, out=dfirst)
        torch.sub(dy, dfirst, out=dsecond)
        return b.out

    return run


FACTORIES: dict[str, Factory] = {
    "glu": lambda b: partial(nn.glu, b.x, -1, out=b.out),
    "glu_backward": lambda b: partial(aten.glu_backward.grad_input, b.dy, b.x, -1, grad_input=b.out),
    "swiglu": swiglu,
    "swiglu_backward": swiglu_backward,
    "maxout": maxout,
    "maxout_backward": maxout_backward,
}
