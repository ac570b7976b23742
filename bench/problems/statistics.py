"""What a training loop watches: the activations of a layer and the update of its weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .functions import Arguments, Build, Maker, Spec, over

FAMILY = "statistics"
SHAPES = ((1024, 1024), (64, 1024))
ODD = (7, 33)


def rectified(*shape: int) -> Build:
    return lambda make: {"y": make.cast(np.maximum(make.normal(*shape).astype(np.float32), 0))}


def squashed(*shape: int) -> Build:
    """Of a tanh, a part of it saturated."""

    def build(make: Maker) -> Arguments:
        return {"y": make.cast(np.tanh(make.normal(*shape, std=2).astype(np.float32))), "activation": "tanh"}

    return build


def update(*shape: int) -> Build:
    return lambda make: {"param": make.normal(*shape), "update": make.normal(*shape, std=1e-3)}


def _spec(function: str, build: Callable[..., Build]) -> Spec:
    return Spec(function=function, family=FAMILY, shapes=over(build, *SHAPES), judged=build(*ODD))


SPECS = (
    _spec("dead_units", rectified),
    _spec("saturation", squashed),
    _spec("activation_statistics", squashed),
    _spec("update_ratio", update),
)
