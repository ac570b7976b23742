"""Layers that compute nothing."""

from __future__ import annotations

import math
from typing import Any

from fastnn.nn.checks import check_gradient, floating
from fastnn.nn.module import Module


class Identity(Module):
    """y = x, the same array. Arguments are taken and ignored, as PyTorch does."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def forward(self, x: Any) -> Any:
        return x

    def backward(self, dy: Any) -> Any:
        vars(self)["dx_is_scratch"] = self.dy_is_scratch
        return dy


class Flatten(Module):
    """Make one axis of those from start_dim to end_dim: (N, C, H, W) becomes (N, C H W), a view where x allows it."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Any) -> Any:
        dims = floating("Flatten", x).ndim
        first, last = (axis + dims if axis < 0 else axis for axis in (self.start_dim, self.end_dim))
        if not 0 <= first <= last < dims:
            raise ValueError(
                f"Flatten: x has shape {x.shape}; expected axes from {self.start_dim} to {self.end_dim} in it"
            )
        y = x.reshape(*x.shape[:first], math.prod(x.shape[first : last + 1]), *x.shape[last + 1 :])
        self.save(x.shape, y.shape, y.dtype)
        return y

    def backward(self, dy: Any) -> Any:
        shape, flat, dtype = self.saved
        check_gradient("Flatten", dy, flat, dtype)
        vars(self)["dx_is_scratch"] = self.dy_is_scratch
        return dy.reshape(shape)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"
