"""The fully connected layer."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastnn import random
from fastnn.arguments import parameter_dtype, plain
from fastnn.functions.linear import linear, linear_backward
from fastnn.nn.checks import check_gradient, count, float_dtype_of, matches, refuse
from fastnn.nn.fused import before_dropout, drop, is_run, saves_output
from fastnn.nn.module import Module
from fastnn.nn.parameter import Parameter


def uniform(shape: tuple[int, ...], fan_in: int, dtype: np.dtype[Any]) -> Parameter:
    """PyTorch's initial weights and biases: uniform within 1 / sqrt(fan_in), its kaiming_uniform(a=sqrt(5))."""
    bound = 1 / math.sqrt(fan_in) if fan_in else 0.0
    return Parameter(random.default_rng().uniform(-bound, bound, shape).astype(dtype))


class Linear(Module):
    """y = x weight^T + bias, over the last axis.

    x (..., in_features), y (..., out_features), of the layer's dtype. Parameters: weight (out_features, in_features),
    bias (out_features,), the latter in float32 where dtype is float16 or bfloat16; both start uniform within
    1 / sqrt(in_features), as PyTorch's do. In a Sequential an activation that follows is applied in the same pass.
    """

    wide_parameters: ClassVar[frozenset[str]] = frozenset({"bias"})

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, dtype: npt.DTypeLike = np.float32
    ) -> None:
        self.in_features = count("Linear", "in_features", in_features)
        self.out_features = count("Linear", "out_features", out_features)
        kind = float_dtype_of("Linear", dtype)
        self.weight = uniform((self.out_features, self.in_features), self.in_features, kind)
        self.bias = uniform((self.out_features,), self.in_features, parameter_dtype(kind)) if bias else None

    dx_is_scratch = True
    y_is_scratch = True

    def forward(self, x: Any) -> Any:
        return self.forward_fused(x, ())

    def backward(self, dy: Any) -> Any:
        return self.backward_fused(dy, ())

    def fuses(self, followers: tuple[Module, ...]) -> bool:
        """In half precision an activation would see z before it is rounded, which it does not by itself."""
        return is_run(followers) and self.weight.dtype.itemsize > 2

    def forward_fused(self, x: Any, followers: tuple[Module, ...]) -> Any:
        weight, bias = self.weight.data, self.bias
        if not matches(x, weight) or x.shape[-1:] != weight.shape[1:]:
            refuse(type(self).__name__, x, weight, f"(..., {weight.shape[1]})")
        then = followers[0].fused_as if followers else None
        flat = plain(x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1]))
        shape = (len(flat), len(weight))
        y = self.output("y", shape, x.dtype)
        z = self.workspace("z", shape, x.dtype) if self.saving and not saves_output(then) else None
        linear(flat, weight, None if bias is None else bias.data, then, z=z, out=y)
        self.save(followers, flat, y if z is None else z, then, drop(followers, y), x.shape)
        return y if x.ndim == 2 else y.reshape(*x.shape[:-1], len(weight))

    def backward_fused(self, dy: Any, followers: tuple[Module, ...]) -> Any:
        x, result, then, scale, shape = self.saved_with(followers)
        weight = self.weight.data
        check_gradient(type(self).__name__, dy, (*shape[:-1], len(weight)), x.dtype)
        flat = before_dropout(self, plain(dy if dy.ndim == 2 else dy.reshape(result.shape)), scale)
        (dweight, dbias), accumulate = self.claim_grads(self.weight, self.bias)
        dx = self.workspace("dx", x.shape, x.dtype) if self.needs_input_grad else None
        linear_backward(
            flat,
            x,
            weight,
            None if then is None else result,
            then,
            need_dx=dx is not None,
            need_dweight=dweight is not None,
            need_dbias=dbias is not None,
            accumulate=accumulate,
            dx=dx,
            dweight=dweight,
            dbias=dbias,
            dz=None if then is None else self.gradient(flat, "dz"),
        )
        return dx if dx is None or len(shape) == 2 else dx.reshape(shape)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
