"""NumPy's regularisers: sums without temporaries, gradients added in place."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...problems.base import Buffers
from ...timing import Run
from ..base import Factory


def penalty(quadratic: bool, linear: bool) -> Factory:
    """Of squares, of magnitudes, or of both; with the gradient where the problem has `grad`."""

    def factory(b: Buffers) -> Run:
        w, grad, t = b.w, b.get("grad"), np.empty_like(b.w)
        strength, square = b.strength, b.strength * b.get("beta", 1.0)

        def run() -> Any:
            total = 0.0
            if quadratic:
                total += square * np.einsum("i,i->", w, w)
                if grad is not None:
                    np.add(grad, np.multiply(w, w.dtype.type(2 * square), out=t), out=grad)
            if linear:
                total += strength * np.sum(np.abs(w, out=t))
                if grad is not None:
                    np.copysign(w.dtype.type(strength), w, out=t)
                    np.add(grad, t, out=grad)
            return total if grad is None else (total, grad)

        return run

    return factory


PENALTIES = {"l2": penalty(True, False), "l1": penalty(False, True), "elastic_net": penalty(True, True)}
FACTORIES: dict[str, Factory] = PENALTIES | {f"{name}_and_grad": factory for name, factory in PENALTIES.items()}
