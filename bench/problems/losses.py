"""Losses: a batch of a thousand scores over a thousand classes, one over ten, and arrays of a million numbers."""

from __future__ import annotations

from collections.abc import Callable

from .functions import Arguments, Build, Maker, Spec, over

FAMILY = "losses"
SCORES = ((1000, 1000), (128, 10), (64, 1024))
NUMBERS = ((1_000_000,), (65_536,))


def scores(name: str) -> Callable[..., Build]:
    def build(*shape: int) -> Build:
        return lambda make: {name: make.normal(*shape, std=2), "labels": make.labels(*shape)}

    return build


def error(*shape: int) -> Build:
    return lambda make: {"x": make.normal(*shape), "target": make.normal(*shape)}


def binary(*shape: int) -> Build:
    def build(make: Maker) -> Arguments:
        return {"logits": make.normal(*shape, std=2), "target": make.cast(make.rng.random(shape) < 0.5)}

    return build


def _pair(
    name: str, build: Callable[..., Build], shapes: tuple[tuple[int, ...], ...], odd: tuple[int, ...]
) -> list[Spec]:
    return [
        Spec(function=f"{name}{suffix}", family=FAMILY, shapes=over(build, *shapes), judged=build(*odd))
        for suffix in ("", "_and_grad")
    ]


SPECS = (
    *_pair("cross_entropy", scores("logits"), SCORES, (7, 33)),
    *_pair("hinge_loss", scores("scores"), SCORES, (7, 33)),
    *_pair("squared_error", error, NUMBERS, (1003,)),
    *_pair("binary_cross_entropy_with_logits", binary, NUMBERS, (1003,)),
)
