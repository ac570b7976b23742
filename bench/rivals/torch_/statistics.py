"""PyTorch's reductions for watching a training run."""

from __future__ import annotations

from typing import Any

from ...problems.base import Buffers
from ...timing import Run
from ..base import Factory
from ..numpy_.statistics import MARGIN
from .library import torch


def dead_units(b: Buffers) -> Run:
    y, below = b.y, torch.empty(b.y.shape, dtype=torch.bool)
    share = torch.promote_types(y.dtype, torch.float32)

    def run() -> Any:
        inactive = torch.le(y, 0, out=below).sum(0)
        return inactive == len(y), inactive.to(share) / len(y)

    return run


def saturation(b: Buffers) -> Run:
    y, near = b.y, torch.empty(b.y.shape, dtype=torch.bool)
    share = torch.promote_types(y.dtype, torch.float32)

    def run() -> Any:
        low = torch.count_nonzero(torch.le(y, MARGIN - 1, out=near))
        high = torch.count_nonzero(torch.ge(y, 1 - MARGIN, out=near))
        return low.to(share) / y.numel(), high.to(share) / y.numel()

    return run


def activation_statistics(b: Buffers) -> Run:
    y, saturated, below = b.y, saturation(b), torch.empty(b.y.shape, dtype=torch.bool)
    share = torch.promote_types(y.dtype, torch.float32)

    def run() -> Any:
        inactive = torch.count_nonzero(torch.le(y, 0, out=below)).to(share) / y.numel()
        std, mean = torch.std_mean(y, correction=0)
        low, high = torch.aminmax(y)
        return mean, std, low, high, inactive, *saturated()

    return run


def update_ratio(b: Buffers) -> Run:
    norm = torch.linalg.vector_norm
    return lambda: norm(b.update) / norm(b.param)


FACTORIES: dict[str, Factory] = {
    "dead_units": dead_units,
    "saturation": saturation,
    "activation_statistics": activation_statistics,
    "update_ratio": update_ratio,
}
