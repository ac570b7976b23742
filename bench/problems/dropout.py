"""Dropout: a million elements and as many as stay in the cache, images where whole channels or samples go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .base import Array
from .functions import Arguments, Build, Spec, over

FAMILY = "dropout"
P = 0.5
SEED = 20140615
SIZES = ((1_000_000,), (65_536,))
IMAGES, FEW_IMAGES = (32, 64, 32, 32), (1, 64, 32, 32)
LAYER = ((1024, 1024), (256, 256))
# of SELU's negative branch, and what keeps mean and variance with half of the elements at that value
ALPHA = -1.7580993408473766
ALPHA_A = (0.5 + 0.25 * ALPHA**2) ** -0.5
ALPHA_B = -0.5 * ALPHA_A * ALPHA


def drawn(name: str) -> Callable[..., Build]:
    """A function of one array that draws a mask."""

    def build(*shape: int) -> Build:
        return lambda make: {name: make.normal(*shape), "p": P, "seed": SEED}

    return build


def _kept(a: Arguments, got: Sequence[Array | None]) -> list[Any]:
    """What is not 0 was kept."""
    y = got[0]
    return [None if y is None else np.where(y == 0, 0, (a["x"] if "x" in a else a["weight"]) / (1 - P))]


def _alpha_kept(a: Arguments, got: Sequence[Array | None]) -> list[Any]:
    y, dropped = got[0], ALPHA_A * ALPHA + ALPHA_B
    return [None if y is None else np.where(np.abs(y - dropped) < 1e-3, dropped, ALPHA_A * a["x"] + ALPHA_B)]


def _pair(name: str, argument: str, *shapes: tuple[int, ...], judged: tuple[int, ...], **options: Any) -> list[Spec]:
    return [
        Spec(
            function=name,
            family=FAMILY,
            shapes=over(drawn(argument), *shapes),
            judged=drawn(argument)(*judged),
            random=True,
            **{"given_choices": _kept} | options,
        ),
        Spec(
            function=f"{name}_backward",
            family=FAMILY,
            shapes=over(drawn("dy"), *shapes),
            judged=drawn("dy")(*judged),
        ),
    ]


SPECS = (
    *_pair("dropout", "x", *SIZES, judged=(1003,), mandatory=1),
    Spec(
        function="dropout_infer",
        family=FAMILY,
        shapes=over(lambda n: lambda make: {"x": make.normal(n), "p": P, "mode": "vanilla"}, *SIZES),
        judged=lambda make: {"x": make.normal(1003), "p": P, "mode": "vanilla"},
    ),
    Spec(
        function="dropout_mask",
        family=FAMILY,
        shapes=over(lambda n: lambda make: {"shape": (n,), "p": P, "seed": SEED}, *SIZES),
        judged=lambda make: {"shape": (17, 59), "p": P, "seed": SEED},
        random=True,
    ),
    *_pair("spatial_dropout", "x", IMAGES, FEW_IMAGES, judged=(3, 5, 7, 3)),
    *_pair("stochastic_depth", "x", IMAGES, (32, 2048), judged=(5, 5, 7, 3)),
    *_pair("drop_connect", "weight", *LAYER, judged=(17, 59)),
    *_pair("alpha_dropout", "x", *SIZES, judged=(1003,), given_choices=_alpha_kept),
    Spec(
        function="philox",
        family=FAMILY,
        shapes=over(lambda n: lambda make: {"blocks": n, "seed": SEED}, (250_000,), (16_384,), text="{} blocks"),
        judged=lambda make: {"blocks": 103, "seed": SEED},
        random=True,
    ),
)
