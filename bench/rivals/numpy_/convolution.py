"""NumPy's convolution: the windows as columns and one matrix product; depthwise the shifted images, added up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...problems.base import Array, Buffers
from ...timing import Run
from ..base import Factory

Offset = tuple[int, int, Array]  # of the window, and what of the padded image it sees


def _image(array: Array) -> Array:
    """A sequence as an image of one row."""
    return array[:, :, None] if array.ndim == 3 else array


def _steps(b: Buffers) -> tuple[int, int, int, int]:
    """Stride down and across, padding above and at the left."""
    stride, pad = b.get("stride", 1), b.get("padding", 0)
    return (1, stride, 0, pad) if b.x.ndim == 3 else (stride, stride, pad, pad)


class Windows:
    """The padded image, and its shifted views, one for each element of the kernel."""

    def __init__(self, b: Buffers, out: tuple[int, ...]) -> None:
        x = _image(b.x)
        n, c, height, width = x.shape
        *self.stride, top, left = _steps(b)
        self.out, self.kernel = out, _image(b.weight).shape[2:]
        self.padded = np.zeros((n, c, height + 2 * top, width + 2 * left), x.dtype) if left else x
        self.image = (slice(None), slice(None), slice(top, top + height), slice(left, left + width))

    def fill(self, x: Array) -> None:
        if self.padded.shape != x.shape:
            self.padded[self.image] = x

    def views(self, image: Array | None = None) -> Iterator[Offset]:
        of = self.padded if image is None else image
        (down, across), (height, width) = self.stride, self.out
        for i, j in np.ndindex(*self.kernel):
            yield i, j, of[:, :, i : i + down * height : down, j : j + across * width : across]


def columns(windows: Windows, groups: int) -> Array:
    """An array for all windows: group, sample, channel and kernel element, pixel."""
    n, c = windows.padded.shape[:2]
    return np.empty((n, groups, c // groups, *windows.kernel, *windows.out), windows.padded.dtype)


def gather(windows: Windows, into: Array) -> Array:
    n, groups, channels = into.shape[:3]
    for i, j, view in windows.views():
        into[:, :, :, i, j] = view.reshape(n, groups, channels, *windows.out)
    return into.reshape(n, groups, -1, windows.out[0] * windows.out[1])


def forward(b: Buffers) -> Run:
    x, weight, y = _image(b.x), _image(b.weight), _image(b.out)
    groups, n, outputs = b.get("groups", 1), x.shape[0], weight.shape[0]
    windows = Windows(b, y.shape[2:])
    bias = b.bias.reshape(-1, *(1,) * (b.x.ndim - 2))
    if groups == x.shape[1] == outputs:
        return _finished(b, _depthwise(windows, weight, x, y), bias)
    by_group = weight.reshape(groups, outputs // groups, -1)
    pixels = y.shape[2] * y.shape[3]
    whole = windows.kernel == (1, 1) and windows.stride == [1, 1]
    work = None if whole else columns(windows, groups)
    result = y.reshape(n, groups, outputs // groups, pixels)

    def product() -> None:
        windows.fill(x)
        seen = x.reshape(n, groups, -1, pixels) if work is None else gather(windows, work)
        np.matmul(by_group, seen, out=result)

    return _finished(b, product, bias)


def _depthwise(windows: Windows, weight: Array, x: Array, y: Array) -> Run:
    t = np.empty_like(y)

    def run() -> None:
        windows.fill(x)
        for index, (i, j, view) in enumerate(windows.views()):
            factor = weight[:, 0, i, j].reshape(-1, 1, 1)
            np.multiply(view, factor, out=t if index else y)
            if index:
                np.add(y, t, out=y)

    return run


def _finished(b: Buffers, product: Run, bias: Array) -> Run:
    y = b.out

    def run() -> Any:
        product()
        np.add(y, bias, out=y)
        return np.clip(y, 0, np.inf, out=y) if b.get("activation") == "relu" else y

    return run


def backward(b: Buffers) -> Run:
    dy, x, weight = _image(b.dy), _image(b.x), _image(b.weight)
    groups, n, outputs = b.get("groups", 1), x.shape[0], weight.shape[0]
    windows = Windows(b, dy.shape[2:])
    by_group = weight.reshape(groups, outputs // groups, -1)
    slope = dy.reshape(n, groups, outputs // groups, -1)
    work, image = columns(windows, groups), np.empty_like(windows.padded)

    def run() -> Any:
        windows.fill(x)
        seen = gather(windows, work)
        dweight = np.matmul(slope, seen.swapaxes(2, 3)).sum(0).reshape(weight.shape)
        spread = np.matmul(by_group.swapaxes(1, 2), slope, out=seen).reshape(work.shape)
        image.fill(0)
        for i, j, view in windows.views(image):
            view += spread[:, :, :, i, j].reshape(view.shape)
        return image[windows.image], dweight, dy.sum((0, 2, 3))

    return run


FACTORIES: dict[str, Factory] = {
    name: factory for n in "12" for name, factory in ((f"conv{n}d", forward), (f"conv{n}d_backward", backward))
}
