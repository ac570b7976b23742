"""Convolutions over one and two spatial axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastnn.arguments import parameter_dtype
from fastnn.functions.convolution import conv1d, conv1d_backward, conv2d, conv2d_backward
from fastnn.nn.checks import check_gradient, count, float_dtype_of, matches, refuse
from fastnn.nn.fused import before_activation, before_dropout, drop, is_run, saves_output
from fastnn.nn.linear import uniform
from fastnn.nn.module import Module
from fastnn.sliding import padding_per_axis, per_axis, window_count

Sizes = int | Sequence[int]
_LETTERS = {1: "L", 2: "H, W"}
_AXES = {1: ("length",), 2: ("height", "width")}
_KEPT_SHAPES = 16


class _Convolution(Module):
    """What convolutions over `dims` spatial axes have in common."""

    dims: ClassVar[int]
    wide_parameters: ClassVar[frozenset[str]] = frozenset({"bias"})
    dx_is_scratch = True
    y_is_scratch = True
    _forward: ClassVar[Callable[..., Any]]
    _backward: ClassVar[Callable[..., Any]]

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

    def _y_shape(self, x: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the result: worked out once for each shape of x."""
        known: dict[Any, tuple[int, ...]] = vars(self).setdefault("_known", {})
        key = (x, *self._options())
        found = known.get(key)
        if found is None:
            title, lengths = type(self).__name__, x[2:]
            options = (lengths, self.kernel_size, self.stride, self.dilation, self._pairs(lengths))
            windows = [window_count(title, *each) for each in zip(_AXES[self.dims], *options, strict=True)]
            if len(known) >= _KEPT_SHAPES:
                known.clear()
            found = known[key] = (x[0], self.out_channels, *windows)
        return found

    def _options(self) -> tuple[Any, ...]:
        return self.stride, self.padding, self.dilation, self.groups

    def forward(self, x: Any) -> Any:
        return self.forward_fused(x, ())

    def backward(self, dy: Any) -> Any:
        return self.backward_fused(dy, ())

    def fuses(self, followers: tuple[Module, ...]) -> bool:
        """In half precision an activation would see z before it is rounded, which it does not by itself."""
        return is_run(followers) and self.weight.dtype.itemsize > 2

    def forward_fused(self, x: Any, followers: tuple[Module, ...]) -> Any:
        weight, bias = self.weight.data, self.bias
        if not matches(x, weight) or x.ndim != weight.ndim or x.shape[1] != self.in_channels:
            refuse(type(self).__name__, x, weight, f"(N, {self.in_channels}, {_LETTERS[self.dims]})")
        then = followers[0].fused_as if followers else None
        shape = self._y_shape(x.shape)
        y = self.output("y", shape, x.dtype)
        z = self.workspace("z", shape, x.dtype) if self.saving and not saves_output(then) else None
        offset = None if bias is None else bias.data
        type(self)._forward(x, weight, offset, *self._options(), then, z=z, out=y)
        self.save(followers, x, y if z is None else z, then, drop(followers, y))
        return y

    def backward_fused(self, dy: Any, followers: tuple[Module, ...]) -> Any:
        x, result, then, scale = self.saved_with(followers)
        check_gradient(type(self).__name__, dy, result.shape, x.dtype)
        dy = before_activation(self, before_dropout(self, dy, scale), result, then)
        (dweight, dbias), accumulate = self.claim_grads(self.weight, self.bias)
        dx = self.workspace("dx", x.shape, x.dtype) if self.needs_input_grad else None
        type(self)._backward(
            dy,
            x,
            self.weight.data,
            *self._options(),
            need_dx=dx is not None,
            need_dweight=dweight is not None,
            need_dbias=dbias is not None,
            accumulate=accumulate,
            dx=dx,
            dweight=dweight,
            dbias=dbias,
        )
        return dx

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
    _forward = staticmethod(conv2d)
    _backward = staticmethod(conv2d_backward)


class Conv1d(_Convolution):
    """Cross-correlation over one axis, as torch.nn.Conv1d: x (N, in_channels, L), y (N, out_channels, L').

    Everything else is as in Conv2d.
    """

    dims = 1
    _forward = staticmethod(conv1d)
    _backward = staticmethod(conv1d_backward)
