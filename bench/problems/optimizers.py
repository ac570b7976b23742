"""Optimiser steps: a million parameters and as many as stay in the cache."""

from __future__ import annotations

from collections.abc import Callable

from .functions import Arguments, Build, Maker, Spec, over

FAMILY = "optimizers"
SIZES = ((1_000_000,), (65_536,))
STEP = 100
# the gradients of a 784-256-128-10 network
NETWORK = ((256, 784), (256,), (128, 256), (128,), (10, 128), (10,))


def sgd(n: int) -> Build:
    return lambda make: {
        "param": make.normal(n),
        "grad": make.normal(n),
        "velocity": make.parameter(n),
        "lr": 1e-3,
        "momentum": 0.9,
    }


def rmsprop(n: int) -> Build:
    return lambda make: {"param": make.normal(n), "grad": make.normal(n), "square_avg": make.positive(n), "lr": 1e-3}


def adam(n: int) -> Build:
    return lambda make: {
        "param": make.normal(n),
        "grad": make.normal(n),
        "exp_avg": make.parameter(n),
        "exp_avg_sq": make.positive(n),
        "step": STEP,
        "lr": 1e-3,
    }


def clip(max_norm: float, *shapes: tuple[int, ...]) -> Build:
    """`max_norm` 0.99 times the norm, so that every call scales, and nothing vanishes in thousands of calls."""

    def build(make: Maker) -> Arguments:
        return {"grads": [make.normal(*shape) for shape in shapes], "max_norm": max_norm}

    return build


def _step(name: str, build: Callable[[int], Build], mandatory: int = 0) -> Spec:
    return Spec(
        function=name,
        family=FAMILY,
        shapes=over(build, *SIZES),
        judged=build(1003),
        mandatory=mandatory,
    )


SPECS = (
    _step("sgd_step", sgd, mandatory=1),
    _step("rmsprop_step", rmsprop),
    _step("adam_step", adam),
    _step("adamw_step", adam, mandatory=1),
    Spec(
        function="clip_grad_norm",
        family=FAMILY,
        shapes={
            "1,000,000, within": clip(1e6, (1_000_000,)),
            "784-256-128-10, within": clip(1e6, *NETWORK),
        },
        judged=clip(0.5, (17,), (3, 5)),
    ),
)
