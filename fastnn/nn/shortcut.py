"""The shortcut without parameters of residual networks."""

from __future__ import annotations

from typing import SupportsIndex

from fastnn.nn.checks import check_gradient, count, floating
from fastnn.nn.memory import Array
from fastnn.nn.module import Module


class PadShortcut(Module):
    """Every `stride`-th pixel, and zeros for the new channels: option A of He, Zhang, Ren, Sun 2015.

    (N, C, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride)), any floating dtype; nothing is learned.
    """

    def __init__(self, out_channels: SupportsIndex, stride: SupportsIndex = 1) -> None:
        self.out_channels = count("PadShortcut", "out_channels", out_channels)
        self.stride = count("PadShortcut", "stride", stride)

    dx_is_scratch = True
    y_is_scratch = True

    def forward(self, x: Array) -> Array:
        if floating("PadShortcut", x).ndim != 4 or x.shape[1] > self.out_channels:
            raise ValueError(
                f"PadShortcut: x has shape {x.shape}; expected (N, C, H, W), C at most {self.out_channels}"
            )
        step = self.stride
        taken = x[:, :, ::step, ::step]
        shape = (len(x), self.out_channels, *taken.shape[2:])
        self.save(x.shape, shape, x.dtype)
        y = self.output("y", shape, x.dtype)
        y[:, : x.shape[1]] = taken
        y[:, x.shape[1] :] = 0
        return y

    def backward(self, dy: Array) -> Array | None:
        shape, padded, dtype = self.saved
        check_gradient("PadShortcut", dy, padded, dtype)
        if not self.needs_input_grad:
            return None
        dx = self.workspace("dx", shape, dy.dtype)
        if self.stride != 1:
            dx[...] = 0
        dx[:, :, :: self.stride, :: self.stride] = dy[:, : shape[1]]
        return dx

    def extra_repr(self) -> str:
        """See Module."""
        return f"out_channels={self.out_channels}, stride={self.stride}"
