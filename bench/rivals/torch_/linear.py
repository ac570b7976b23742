"""PyTorch's linear layer: with `out=`, through oneDNN where that is quicker."""

from __future__ import annotations

from functools import partial
from typing import Any

from ...problems.base import Buffers
from ...timing import Run
from ..base import Factory, quickest
from .library import aten, nn, torch


def forward(b: Buffers) -> Run:
    x, weight, bias, y = b.x, b.weight, b.bias.to(b.x.dtype), b.out
    across = weight.t()
    if b.get("activation") != "relu":
        return quickest(
            partial(nn.linear, x, weight, bias, out=y),
            partial(torch.addmm, bias, x, across, out=y),
        )

    def plain() -> Any:
        nn.linear(x, weight, bias, out=y)
        return torch.clamp_min(y, 0, out=y)

    return quickest(plain, partial(aten._addmm_activation.out, bias, x, across, out=y))


def backward(b: Buffers) -> Run:
    dy, x, weight = b.dy, b.x, b.weight
    dx, dweight, dbias = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight[:, 0])

    def run() -> Any:
        torch.mm(dy, weight, out=dx)
        torch.mm(dy.t(), x, out=dweight)
        return dx, dweight, torch.sum(dy, 0, out=dbias)

    return run


FACTORIES: dict[str, Factory] = {"linear": forward, "linear_backward": backward}
