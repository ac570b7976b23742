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
    return [b.get("stride", 1)] * 2, [b.get("padding", 0)] * 2, [b.get("dilation", 1)] * 2


def forward(b: Buffers) -> Run:
    x, weight, bias = b.x, b.weight, b.bias
    options = (*_geometry(b), b.get("groups", 1))
    last = weight.to(memory_format=torch.channels_last)
    relu = b.get("activation") == "relu"

    def plain() -> Any:
        y = torch.conv2d(x, weight, bias, *options)
        return y.clamp_min_(0) if relu else y

    def channels_last() -> Any:
        y = torch.conv2d(x.to(memory_format=torch.channels_last), last, bias, *options)
        return (y.clamp_min_(0) if relu else y).contiguous()

    return quickest(plain, channels_last)


def backward(b: Buffers) -> Run:
    stride, padding, dilation = _geometry(b)
    return partial(
        aten.convolution_backward, b.dy, b.x, b.weight, [b.weight.shape[0]], stride, padding, dilation, False, [0, 0],
        b.get("groups", 1), EVERYTHING,
    )  # fmt: skip


FACTORIES: dict[str, Factory] = {"conv2d": forward, "conv2d_backward": backward}
