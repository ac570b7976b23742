"""Augmentation of a batch of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .base import Array
from .functions import Arguments, Build, Maker, Spec, over

FAMILY = "augmentation"
SEED = 20170815
SHAPES = ((256, 3, 32, 32), (16, 3, 32, 32))
CLASSES = 10
ALPHA = 0.4


def cutout(*shape: int) -> Build:
    return lambda make: {"x": make.normal(*shape), "size": shape[2] // 2, "seed": SEED}


def mixup(*shape: int) -> Build:
    def build(make: Maker) -> Arguments:
        labels = make.labels(shape[0], CLASSES)
        return {"x": make.normal(*shape), "labels": labels, "alpha": ALPHA, "classes": CLASSES, "seed": SEED}

    return build


def _cut(a: Arguments, got: Sequence[Array | None]) -> list[Any]:
    y = got[0]
    return [None if y is None else np.where(y == 0, 0, a["x"])]


def _mixed(a: Arguments, got: Sequence[Array | None]) -> list[Any]:
    """The blend that lam and the permutation, third and fourth of the results, ask for."""
    lam, permutation = got[2], got[3]
    if lam is None or permutation is None:
        return []
    weight, soft = float(lam), np.eye(CLASSES)[a["labels"]]
    return [*(weight * part + (1 - weight) * part[permutation] for part in (a["x"], soft)), lam, permutation]


SPECS = (
    Spec(
        function="cutout",
        family=FAMILY,
        shapes=over(cutout, *SHAPES),
        judged=cutout(7, 3, 9, 9),
        random=True,
        given_choices=_cut,
    ),
    Spec(
        function="mixup",
        family=FAMILY,
        shapes=over(mixup, *SHAPES),
        judged=mixup(7, 3, 5, 5),
        random=True,
        given_choices=_mixed,
    ),
)
