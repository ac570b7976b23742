"""PyTorch's convolution, which is oneDNN's; the arrays as they are, or put channels last and back."""

from __future__ import annotations

from functools import partial
from typing import Any

from ...problems.base import Buffers
from ...timing import Run
from ..base import Factory, quickest
from .library import aten, torch

EVERYTHING = [True, True, True]


def _geometry(b: Buffers) -> tuple[list[int], list[int], list[int]]:
    dims = b.x.dim() - 2
    return [b.get("stride", 1)] * dims, [b.get("padding", 0)] * dims, [b.get("dilation", 1)] * dims


def forward(b: Buffers) -> Run:
    x, weight, bias = b.x, b.weight, b.bias.to(b.x.dtype)
    options = (*_geometry(b), b.get("groups", 1))
    relu = b.get("activation") == "relu"
    convolve = torch.conv1d if x.dim() == 3 else torch.conv2d

    def plain() -> Any:
        y = convolve(x, weight, bias, *options)
        return y.clamp_min_(0) if relu else y

    if x.dim() == 3:
        return plain
    last = weight.to(memory_format=torch.channels_last)

    def channels_last() -> Any:
        y = torch.conv2d(x.to(memory_format=torch.channels_last), last, bias, *options)
        return (y.clamp_min_(0) if relu else y).contiguous()

    return quickest(plain, channels_last)


def backward(b: Buffers) -> Run:
    stride, padding, dilation = _geometry(b)
    return partial(
        aten.convolution_backward, b.dy, b.x, b.weight, [b.weight.shape[0]], stride, padding, dilation, False,
        [0] * len(stride), b.get("groups", 1), EVERYTHING,
    )  # fmt: skip


FACTORIES: dict[str, Factory] = {
    name: factory for n in "12" for name, factory in ((f"conv{n}d", forward), (f"conv{n}d_backward", backward))
}
