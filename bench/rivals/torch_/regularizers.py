"""PyTorch's regularisers: a dot product and a norm, gradients added in place."""

from __future__ import annotations

from typing import Any

from ...problems.base import Buffers
from ...timing import Run
from ..base import Factory
from .library import torch


def penalty(quadratic: bool, linear: bool) -> Factory:
    """Of squares, of magnitudes, or of both; with the gradient where the problem has `grad`."""

    def factory(b: Buffers) -> Run:
        w, grad, t = b.w, b.get("grad"), torch.empty_like(b.w)
        strength, square = b.strength, b.strength * b.get("beta", 1.0)

        def run() -> Any:
            total = 0.0
            if quadratic:
                total = square * torch.dot(w, w)
                if grad is not None:
                    grad.add_(w, alpha=2 * square)
            if linear:
                total = total + strength * torch.linalg.vector_norm(w, 1)
                if grad is not None:
                    grad.add_(torch.sign(w, out=t), alpha=strength)
            return total if grad is None else (total, grad)

        return run

    return factory


PENALTIES = {"l2": penalty(True, False), "l1": penalty(False, True), "elastic_net": penalty(True, True)}
FACTORIES: dict[str, Factory] = PENALTIES | {f"{name}_and_grad": factory for name, factory in PENALTIES.items()}
