"""Convolutions over one and two spatial axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastnn import functional
from fastnn.arguments import parameter_dtype, plain
from fastnn.dispatch import implementation
from fastnn.functions.convolution import _checked as checked_convolution
from fastnn.functions.convolution import _Convolution as Convolution
from fastnn.functions.convolution import _run as run_backward
from fastnn.nn.checks import Array, check_gradient, count, float_dtype_of, matches, refuse
from fastnn.nn.fused import before_dropout, checked, drop, is_run, saves_output
from fastnn.nn.linear import uniform
from fastnn.nn.module import Module
from fastnn.sliding import padding_per_axis, per_axis

Sizes = int | Sequence[int]
_LETTERS = {1: "L", 2: "H, W"}
_KEPT_SHAPES = 16


class _Convolution(Module):
    """What convolutions over `dims` spatial axes have in common."""

    dims: ClassVar[int]
    wide_parameters: ClassVar[frozenset[str]] = frozenset({"bias"})
    dx_is_scratch = True
    y_is_scratch = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: str | Sizes = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        title, kind = type(self).__name__, float_dtype_of(type(self).__name__, dtype)
        self.in_channels = count(title, "in_channels", in_channels)
        self.out_channels = count(title, "out_channels", out_channels)
        self.groups = count(title, "groups", groups)
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise ValueError(
                f"{title}: groups is {groups}; expected a divisor of in_channels, {in_channels}, and of out_channels, "
                f"{out_channels}"
            )
        if padding_mode != "zeros":
            raise ValueError(
                f"{title}: padding_mode is {padding_mode!r}; expected 'zeros': pad x with np.pad for others"
            )
        self.padding_mode = padding_mode
        self.kernel_size = per_axis(title, "kernel_size", kernel_size, self.dims)
        self.stride = per_axis(title, "stride", stride, self.dims)
        self.dilation = per_axis(title, "dilation", dilation, self.dims)
        self.padding = padding if isinstance(padding, str) else per_axis(title, "padding", padding, self.dims, 0)
        if padding == "same" and any(step != 1 for step in self.stride):
            raise ValueError(f"{title}: padding is 'same' and stride {stride}; expected stride 1 beside it")
        self._pairs((1,) * self.dims)
        inner = self.in_channels // self.groups
        fan_in = inner * math.prod(self.kernel_size)
        self.weight = uniform((self.out_channels, inner, *self.kernel_size), fan_in, kind)
        self.bias = uniform((self.out_channels,), fan_in, parameter_dtype(kind)) if bias else None

    def _pairs(self, lengths: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        title = type(self).__name__
        return padding_per_axis(title, self.padding, lengths, self.kernel_size, self.stride, self.dilation)

    def _geometry(self, x: Array, weight: Array) -> tuple[Any, ...]:
        """What kernels take of the options, and the shape of the result: worked out once for each shape of x."""
        options = (self.stride, self.padding, self.dilation, self.groups)
        key = (x.shape, *options)
        known: dict[Any, tuple[Any, ...]] = vars(self).setdefault("_geometries", {})
        found = known.get(key)
        if found is None:
            made = checked_convolution(type(self).__name__, x, weight, *options, self.dims)
            if len(known) >= _KEPT_SHAPES:
                known.clear()
            found = known[key] = made.options, made.y_shape
        return found

    def forward(self, x: Any) -> Any:
        return self.forward_fused(x, ())

    def backward(self, dy: Any) -> Any:
        return self.backward_fused(dy, ())

    def fuses(self, followers: tuple[Module, ...]) -> bool:
        """In half precision an activation would see z before it is rounded, which it does not by itself."""
        return is_run(followers) and self.weight.dtype.itemsize > 2

    def forward_fused(self, x: Any, followers: tuple[Module, ...]) -> Any:
        weight, bias = self.weight.data, self.bias
        if not matches(x, weight.dtype) or x.ndim != weight.ndim or x.shape[1] != self.in_channels:
            refuse(type(self).__name__, x, weight.dtype, f"(N, {self.in_channels}, {_LETTERS[self.dims]})")
        then = followers[0].fused_as if followers else None
        options, shape = self._geometry(x, weight)
        x = plain(x)
        y = self.output("y", shape, x.dtype)
        z = self.workspace("z", shape, x.dtype) if self.saving and not saves_output(then) else None
        if y.size:
            name, params = checked(then, x.dtype) or (None, ())
            offset = None if bias is None else bias.data
            kernels = implementation("convolution")
            kernels.forward(_planes(x), _planes(weight), offset, y, *options, name, params, z)
        self.save(followers, x, y if z is None else z, then, drop(followers, y), options)
        return self._back(y)

    def backward_fused(self, dy: Any, followers: tuple[Module, ...]) -> Any:
        x, result, then, scale, options = self.saved_with(followers)
        check_gradient(type(self).__name__, dy, self._back(result).shape, x.dtype)
        dy = before_dropout(self, plain(dy).reshape(result.shape), scale)
        (dweight, dbias), accumulate = self.claim_grads(self.weight, self.bias)
        dx = self.workspace("dx", x.shape, x.dtype) if self.needs_input_grad else None
        if then is not None:
            name, params = checked(then, x.dtype) or (None, ())
            dy = getattr(functional, f"{name}_backward")(dy, result, *params, out=self.gradient(dy, "dz"))
        made = Convolution(_planes(x), _planes(self.weight.data), options, result.shape)
        gradients = {"dx": dx, "dweight": dweight, "dbias": dbias}
        run_backward(dy, made, {k: None if v is None else _planes(v) for k, v in gradients.items()}, accumulate)
        return dx

    def _back(self, y: Array) -> Array:
        """Without the axis that kernels want."""
        return y if self.dims == 2 else y[:, :, 0]

    def extra_repr(self) -> str:
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        parts += [f"padding={self.padding}"] if self.padding != (0,) * self.dims else []
        parts += [f"dilation={self.dilation}"] if self.dilation != (1,) * self.dims else []
        parts += [f"groups={self.groups}"] if self.groups != 1 else []
        return ", ".join(parts + ([] if self.bias is not None else ["bias=False"]))


class Conv2d(_Convolution):
    """Cross-correlation over height and width, as torch.nn.Conv2d.

    x (N, in_channels, H, W), y (N, out_channels, H', W') with H' = (H + 2 padding - dilation (kernel - 1) - 1) //
    stride + 1, of the layer's dtype. `padding` counts zeros on both sides, or is "valid" or "same". Parameters: weight
    (out_channels, in_channels / groups, kH, kW), bias (out_channels,), the latter in float32 where dtype is float16 or
    bfloat16; both start uniform within 1 / sqrt(kH kW in_channels / groups). In a Sequential an activation that follows
    is applied in the same pass.
    """

    dims = 2


class Conv1d(_Convolution):
    """Cross-correlation over one axis, as torch.nn.Conv1d: x (N, in_channels, L), y (N, out_channels, L').

    Everything else is as in Conv2d.
    """

    dims = 1


def _planes(array: Array) -> Array:
    """With two spatial axes; weights and their gradients alike. One number per channel stays."""
    return array if array.ndim != 3 else array[:, :, None]
