"""Softmax: a thousand classes, a few rows that stay in the cache, the ten classes of a small problem."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .functions import Arguments, Build, Maker, Spec, over

FAMILY = "softmax"
SHAPES = ((1000, 1000), (64, 1024), (4096, 10))
ODD = (7, 33)


def logits(*shape: int) -> Build:
    return lambda make: {"x": make.normal(*shape, std=2)}


def slopes(logarithm: bool) -> Callable[..., Build]:
    def build(*shape: int) -> Build:
        def arguments(make: Maker) -> Arguments:
            z = make.normal(*shape, std=2).astype(np.float64)
            z -= z.max(-1, keepdims=True)
            y = z - np.log(np.exp(z).sum(-1, keepdims=True))
            return {"dy": make.normal(*shape), "y": make.cast(y if logarithm else np.exp(y))}

        return arguments

    return build


def _spec(function: str, build: Callable[..., Build], mandatory: int = 0) -> Spec:
    return Spec(function=function, family=FAMILY, shapes=over(build, *SHAPES), judged=build(*ODD), mandatory=mandatory)


SPECS = (
    _spec("softmax", logits, mandatory=1),
    _spec("softmax_backward", slopes(False)),
    _spec("log_softmax", logits),
    _spec("log_softmax_backward", slopes(True)),
)
