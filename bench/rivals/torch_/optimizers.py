"""PyTorch's optimiser steps: its fused kernels, and the few calls of its simple loops where those are quicker."""

from __future__ import annotations

from functools import partial
from typing import Any

from ...problems.base import Buffers
from ...timing import Run
from ..base import Call, Factory, quickest
from .library import aten, torch


def _state(b: Buffers, *names: str) -> list[Any]:
    """Of the parameter's dtype, as torch keeps them."""
    return [b.values[name].to(b.param.dtype) for name in names]


def sgd(b: Buffers) -> Call:
    param, grad, (velocity,) = b.param, b.grad, _state(b, "velocity")
    fused = partial(
        aten._fused_sgd_.default, [param], [grad], [velocity], lr=b.lr, momentum=b.momentum, weight_decay=0.0,
        dampening=0.0, nesterov=False, maximize=False, is_first_step=False,
    )  # fmt: skip

    def simple() -> None:
        velocity.mul_(b.momentum).add_(grad)
        param.add_(velocity, alpha=-b.lr)

    return Call(_harmless(fused, simple, param, velocity), lambda _: (param, velocity))


def _harmless(fused: Run, simple: Run, *state: Any) -> Run:
    """The quicker one; trying both must leave the state as it was."""
    before = [part.clone() for part in state]
    chosen = quickest(fused, simple)
    for part, old in zip(state, before, strict=True):
        part.copy_(old)
    return chosen


def adam(decay: float, kernel: str) -> Factory:
    def factory(b: Buffers) -> Call:
        param, grad, (first, second) = b.param, b.grad, _state(b, "exp_avg", "exp_avg_sq")
        fused = partial(
            getattr(aten, kernel).default, [param], [grad], [first], [second], [], [torch.tensor(float(b.step))],
            lr=b.lr, beta1=0.9, beta2=0.999, weight_decay=decay, eps=1e-8, amsgrad=False, maximize=False,
        )  # fmt: skip
        root, size = (1 - 0.999**b.step) ** 0.5, b.lr / (1 - 0.9**b.step)

        def simple() -> None:
            if decay:
                param.mul_(1 - b.lr * decay)
            first.lerp_(grad, 0.1)
            second.mul_(0.999).addcmul_(grad, grad, value=0.001)
            param.addcdiv_(first, second.sqrt().div_(root).add_(1e-8), value=-size)

        return Call(_harmless(fused, simple, param, first, second), lambda _: (param, first, second))

    return factory


def rmsprop(b: Buffers) -> Call:
    param, grad, (square,) = b.param, b.grad, _state(b, "square_avg")
    t = torch.empty_like(param)

    def run() -> None:
        square.mul_(0.99).addcmul_(grad, grad, value=0.01)
        torch.sqrt(square, out=t)
        param.addcdiv_(grad, t.add_(1e-8), value=-b.lr)

    return Call(run, lambda _: (param, square))


def clip(b: Buffers) -> Run:
    grads, bound = b.grads, b.max_norm

    def run() -> Any:
        total = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
        if total > bound:
            torch._foreach_mul_(grads, bound / (total + 1e-6))
        return total

    return run


FACTORIES: dict[str, Factory] = {
    "sgd_step": sgd,
    "adam_step": adam(0.0, "_fused_adam_"),
    "adamw_step": adam(0.01, "_fused_adamw_"),
    "rmsprop_step": rmsprop,
    "clip_grad_norm": clip,
}
