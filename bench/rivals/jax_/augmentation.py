"""JAX's augmentation."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...problems.augmentation import CLASSES
from ...problems.base import Buffers
from ...timing import Run
from ..base import Factory
from ..numpy_.dropout import RANDOM
from .library import compiled, jax, jnp


def cutout(b: Buffers) -> Run:
    n, _, height, width = b.x.shape
    half = b.size // 2

    def inside(key: Any, length: int) -> Any:
        at = jax.random.randint(key, (n, 1), 0, length)
        line = jnp.arange(length)
        return (line >= at - half) & (line < at + half)

    def cut(key: Any, x: Any) -> Any:
        down, right = jax.random.split(key)
        box = inside(down, height)[:, None, :, None] & inside(right, width)[:, None, None, :]
        return jnp.where(box, 0, x)

    return compiled(cut, jax.random.key(1), b.x)


def mixup(b: Buffers) -> Run:
    """lam and the permutation are drawn by NumPy: JAX's own take longer."""

    def drawn() -> tuple[Any, ...]:
        return np.float32(RANDOM.beta(b.alpha, b.alpha)), RANDOM.permutation(len(b.x))

    def mix(x: Any, labels: Any, lam: Any, permutation: Any) -> Any:
        soft = jax.nn.one_hot(labels, CLASSES, dtype=jnp.float32)
        y = (lam * x + (1 - lam) * x[permutation]).astype(x.dtype)
        return y, lam * soft + (1 - lam) * soft[permutation], lam, permutation

    return compiled(mix, b.x, b.labels, drawn=drawn)


FACTORIES: dict[str, Factory] = {"cutout": cutout, "mixup": mixup}
