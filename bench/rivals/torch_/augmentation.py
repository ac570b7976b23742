"""PyTorch's augmentation."""

from __future__ import annotations

from typing import Any

from ...problems.augmentation import CLASSES
from ...problems.base import Buffers
from ...timing import Run
from ..base import Factory, quickest
from ..numpy_.augmentation import boxes
from ..numpy_.dropout import RANDOM
from .library import torch


def cutout(b: Buffers) -> Run:
    """Box by box, or all at once by two masks."""
    x, y = b.x, b.out
    n, _, height, width = x.shape
    half = b.size // 2
    rows, columns = torch.arange(height), torch.arange(width)

    def box_by_box() -> Any:
        y.copy_(x)
        for image, (top, bottom, left, right) in zip(y, boxes(b), strict=True):
            image[:, top:bottom, left:right] = 0
        return y

    def at_once() -> Any:
        centre = torch.randint(height, (n, 1)), torch.randint(width, (n, 1))
        down, right = (
            (line >= at - half) & (line < at + half) for line, at in zip((rows, columns), centre, strict=True)
        )
        keep = ~(down[:, :, None] & right[:, None, :])
        return torch.mul(x, keep[:, None], out=y)

    return quickest(box_by_box, at_once)


def mixup(b: Buffers) -> Run:
    x, y, other = b.x, b.out, torch.empty_like(b.x)
    rows = torch.eye(CLASSES)

    def run() -> Any:
        lam = RANDOM.beta(b.alpha, b.alpha)
        permutation = torch.randperm(len(x))
        torch.index_select(x, 0, permutation, out=other)
        torch.lerp(other, x, lam, out=y)
        soft = rows[b.labels]
        return y, torch.lerp(soft[permutation], soft, lam), lam, permutation

    return run


FACTORIES: dict[str, Factory] = {"cutout": cutout, "mixup": mixup}
