"""NumPy's augmentation."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...problems.augmentation import CLASSES
from ...problems.base import Buffers
from ...timing import Run
from ..base import Factory
from .dropout import RANDOM


def boxes(b: Buffers) -> list[tuple[int, int, int, int]]:
    """Top, bottom, left and right of each image's box."""
    n, _, height, width = b.x.shape
    half = b.size // 2
    y, x = RANDOM.integers(0, height, n), RANDOM.integers(0, width, n)
    top, left = np.maximum(y - half, 0), np.maximum(x - half, 0)
    return list(zip(top.tolist(), (y + half).tolist(), left.tolist(), (x + half).tolist(), strict=True))


def cutout(b: Buffers) -> Run:
    x, y = b.x, b.out

    def run() -> Any:
        np.copyto(y, x)
        for image, (top, bottom, left, right) in zip(y, boxes(b), strict=True):
            image[:, top:bottom, left:right] = 0
        return y

    return run


def mixup(b: Buffers) -> Run:
    x, y, other = b.x, b.out, np.empty_like(b.x)
    rows = np.eye(CLASSES, dtype=np.float32)

    def run() -> Any:
        lam = RANDOM.beta(b.alpha, b.alpha)
        permutation = RANDOM.permutation(len(x))
        np.take(x, permutation, axis=0, out=other, mode="clip")
        np.multiply(other, x.dtype.type(1 - lam), out=other)
        np.multiply(x, x.dtype.type(lam), out=y)
        np.add(y, other, out=y)
        soft = rows[b.labels]
        return y, lam * soft + (1 - lam) * soft[permutation], lam, permutation

    return run


FACTORIES: dict[str, Factory] = {"cutout": cutout, "mixup": mixup}
