"""PyTorch's dropout: its own functions, and what is quicker than they are, masks made of raw random bits.

Backward is ATen's own, with the mask that forward stored.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from ...problems.base import Buffers
from ...problems.dropout import ALPHA, ALPHA_A, ALPHA_B, P
from ...timing import Run
from ..base import Factory, quickest
from ..numpy_.dropout import SCALE, THRESHOLD, stored
from .library import aten, torch


def kept16(count: int) -> Any:
    """Booleans for `count` elements, from 16 random bits each."""
    bits = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
    return bits.view(torch.int16)[:count] >= THRESHOLD - 32768


def elementwise(x: Any, out: Any) -> Run:
    keep = torch.empty(x.shape, dtype=torch.bool)

    def by_bernoulli() -> Any:
        torch.mul(x, keep.bernoulli_(1 - P), out=out)
        return out.mul_(SCALE)

    def by_bits() -> Any:
        torch.mul(x, kept16(x.numel()).view(x.shape), out=out)
        return out.mul_(SCALE)

    def native() -> Any:
        return torch.native_dropout(x, P, True)[0]

    return quickest(partial(torch.dropout, x, P, True), native, by_bernoulli, by_bits)


def units(axes: int) -> Factory:
    def factory(b: Buffers) -> Run:
        x, y = b.x, b.out
        factors = torch.empty((*x.shape[:axes], *(1,) * (x.dim() - axes)), dtype=x.dtype)

        def run() -> Any:
            return torch.mul(x, factors.bernoulli_(1 - P).mul_(SCALE), out=y)

        return run

    return factory


def backward(b: Buffers, axes: int | None = None, scale: float = SCALE) -> Run:
    dy = b.dy
    shape = tuple(dy.shape) if axes is None else tuple(dy.shape[:axes])
    keep = torch.from_numpy(stored(shape)).view(*shape, *(1,) * (dy.dim() - len(shape)))
    as_numbers = partial(torch.mul, dy, keep * torch.tensor(scale, dtype=dy.dtype), out=b.out)
    if axes is not None:
        return as_numbers
    return quickest(as_numbers, partial(aten.native_dropout_backward.out, dy, keep, scale, out=b.out))


def alpha(b: Buffers) -> Run:
    x, y = b.x, b.out
    dropped = ALPHA_A * ALPHA + ALPHA_B
    difference = torch.tensor(ALPHA_B - dropped, dtype=x.dtype)

    def by_bits() -> Any:
        torch.add(difference, x, alpha=ALPHA_A, out=y)
        return y.mul_(kept16(x.numel())).add_(dropped)

    return quickest(partial(torch.alpha_dropout, x, P, True), by_bits)


def mask(b: Buffers) -> Run:
    count = math.prod(b.shape)
    keep = torch.empty(b.shape, dtype=torch.bool)
    return quickest(lambda: kept16(count).view(b.shape), lambda: keep.bernoulli_(1 - P))


def words(b: Buffers) -> Run:
    bits = torch.empty(2 * b.blocks, dtype=torch.int64)
    return partial(bits.random_, -(2**63), None)


FACTORIES: dict[str, Factory] = {
    "dropout": lambda b: elementwise(b.x, b.out),
    "dropout_backward": backward,
    "dropout_infer": lambda b: partial(torch.mul, b.x, 1 - P, out=b.out),
    "dropout_mask": mask,
    "spatial_dropout": units(2),
    "spatial_dropout_backward": lambda b: backward(b, 2),
    "stochastic_depth": units(1),
    "stochastic_depth_backward": lambda b: backward(b, 1),
    "drop_connect": lambda b: elementwise(b.weight, b.out),
    "drop_connect_backward": backward,
    "alpha_dropout": alpha,
    "alpha_dropout_backward": lambda b: backward(b, None, ALPHA_A),
    "philox": words,
}
