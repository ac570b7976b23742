"""numexpr's regularisers: one reduction; with the gradient a second expression."""

from __future__ import annotations

from typing import Any

from ...problems.base import Buffers
from ...timing import Run
from ..base import Factory
from .expression import compiled


def penalty(value: str, slope: str) -> Factory:
    def factory(b: Buffers) -> Run:
        numbers = {"strength": b.strength, "square": b.strength * b.get("beta", 1.0)}
        total = compiled(f"sum({value})", {"w": b.w}, numbers, None)
        grad = b.get("grad")
        if grad is None:
            return total
        add = compiled(f"grad + {slope}", {"w": b.w, "grad": grad}, numbers, grad)

        def run() -> Any:
            return total(), add()

        return run

    return factory


SIGN = "where(w > 0, strength, where(w < 0, -strength, 0))"
PENALTIES = {
    "l2": penalty("square * w * w", "2 * square * w"),
    "l1": penalty("strength * abs(w)", SIGN),
    "elastic_net": penalty("square * w * w + strength * abs(w)", f"2 * square * w + {SIGN}"),
}
FACTORIES: dict[str, Factory] = PENALTIES | {f"{name}_and_grad": factory for name, factory in PENALTIES.items()}
