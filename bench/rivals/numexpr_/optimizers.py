"""numexpr's optimiser steps: an expression for every array that changes, written in place."""

from __future__ import annotations

from ...problems.base import Buffers
from ..base import Call, Factory
from .expression import compiled


def steps(state: tuple[str, ...], *expressions: str) -> Factory:
    """One expression for each array of `state`, in the order in which they are updated."""

    def factory(b: Buffers) -> Call:
        arrays = {"param": b.param, "grad": b.grad, **{name: b.values[name] for name in state}}
        step = b.get("step", 1)
        root = (1 - 0.999**step) ** 0.5
        numbers = {
            "lr": b.lr,
            "momentum": b.get("momentum", 0.0),
            "eps": 1e-8,
            "a": 0.9,
            "c": 0.1,
            "d": 0.999,
            "e": 0.001,
            "f": 0.99,
            "g": 0.01,
            "size": b.lr / (1 - 0.9**step) * root,
            "eps_root": 1e-8 * root,
            "decayed": 1 - b.lr * 0.01,
        }
        runs = [
            compiled(expression, arrays, numbers, arrays[name])
            for name, expression in zip(state, expressions, strict=True)
        ]

        def run() -> None:
            for one in runs:
                one()

        results = [arrays["param"], *(arrays[name] for name in state if name != "param")]
        return Call(run, lambda _: results)

    return factory


MEANS = ("a * exp_avg + c * grad", "d * exp_avg_sq + e * grad * grad")

FACTORIES: dict[str, Factory] = {
    "sgd_step": steps(("velocity", "param"), "momentum * velocity + grad", "param - lr * velocity"),
    "adam_step": steps(
        ("exp_avg", "exp_avg_sq", "param"), *MEANS, "param - size * exp_avg / (sqrt(exp_avg_sq) + eps_root)"
    ),
    "adamw_step": steps(
        ("exp_avg", "exp_avg_sq", "param"), *MEANS, "decayed * param - size * exp_avg / (sqrt(exp_avg_sq) + eps_root)"
    ),
    "rmsprop_step": steps(
        ("square_avg", "param"), "f * square_avg + g * grad * grad", "param - lr * grad / (sqrt(square_avg) + eps)"
    ),
}
