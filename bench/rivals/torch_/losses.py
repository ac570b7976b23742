"""PyTorch's losses, and their gradients by ATen's own backward kernels, with `out=` where there is one."""

from __future__ import annotations

from functools import partial
from typing import Any

from ...problems.base import Buffers
from ...timing import Run
from ..base import Factory
from .library import aten, torch

MEAN = 1
IGNORED = -100


def cross_entropy(b: Buffers) -> Run:
    z, labels, y = b.logits, b.labels, torch.empty_like(b.logits)

    def run() -> Any:
        aten._log_softmax.out(z, 1, False, out=y)
        return aten.nll_loss_forward(y, labels, None, MEAN, IGNORED)[0]

    return run


def cross_entropy_and_grad(b: Buffers) -> Run:
    z, labels, y = b.logits, b.labels, torch.empty_like(b.logits)
    slope, dz, one = torch.empty_like(z), torch.empty_like(z), torch.ones((), dtype=z.dtype)

    def run() -> Any:
        aten._log_softmax.out(z, 1, False, out=y)
        loss, total = aten.nll_loss_forward(y, labels, None, MEAN, IGNORED)
        slope.zero_()
        aten.nll_loss_backward.grad_input(one, y, labels, None, MEAN, IGNORED, total, grad_input=slope)
        return loss, aten._log_softmax_backward_data.out(slope, y, 1, z.dtype, out=dz)

    return run


def _classes(b: Buffers) -> Any:
    """torch divides by the number of classes; weights of that number undo it."""
    return torch.full((b.scores.shape[1],), float(b.scores.shape[1]), dtype=b.scores.dtype)


def hinge_loss(b: Buffers) -> Run:
    return partial(aten.multi_margin_loss, b.scores, b.labels, 1, 1, _classes(b), MEAN)


def hinge_loss_and_grad(b: Buffers) -> Run:
    z, labels, weight, one = b.scores, b.labels, _classes(b), torch.ones((), dtype=b.scores.dtype)
    dz = torch.empty_like(z)

    def run() -> Any:
        loss = aten.multi_margin_loss(z, labels, 1, 1, weight, MEAN)
        return loss, aten.multi_margin_loss_backward.grad_input(one, z, labels, 1, 1, weight, MEAN, grad_input=dz)

    return run


def squared_error(b: Buffers) -> Run:
    return partial(aten.mse_loss, b.x, b.target, MEAN)


def squared_error_and_grad(b: Buffers) -> Run:
    x, target, dx, one = b.x, b.target, torch.empty_like(b.x), torch.ones((), dtype=b.x.dtype)

    def run() -> Any:
        return aten.mse_loss(x, target, MEAN), aten.mse_loss_backward.grad_input(one, x, target, MEAN, grad_input=dx)

    return run


def binary(b: Buffers) -> Run:
    return partial(aten.binary_cross_entropy_with_logits, b.logits, b.target, None, None, MEAN)


def binary_and_grad(b: Buffers) -> Run:
    """The gradient is what torch's own formula for it is: (sigmoid(x) - target) / n."""
    x, target, dx = b.logits, b.target, torch.empty_like(b.logits)
    forward = binary(b)

    def run() -> Any:
        torch.sigmoid(x, out=dx)
        return forward(), dx.sub_(target).mul_(1 / x.numel())

    return run


FACTORIES: dict[str, Factory] = {
    "cross_entropy": cross_entropy,
    "cross_entropy_and_grad": cross_entropy_and_grad,
    "hinge_loss": hinge_loss,
    "hinge_loss_and_grad": hinge_loss_and_grad,
    "squared_error": squared_error,
    "squared_error_and_grad": squared_error_and_grad,
    "binary_cross_entropy_with_logits": binary,
    "binary_cross_entropy_with_logits_and_grad": binary_and_grad,
}
