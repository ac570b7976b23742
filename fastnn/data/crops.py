"""Flips and crops of batches of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.arguments import real_number, whole_number
from fastnn.data.resizing import resize_boxes
from fastnn.data.transform import Transform, interval, log_uniform, run_kernel

Array = npt.NDArray[Any]


class RandomHorizontalFlip(Transform):
    """Every image is mirrored, left to right, with probability `p`."""

    def __init__(self, p: float = 0.5) -> None:
        self.p = real_number("RandomHorizontalFlip", "p", p, low=0, high=1)

    def apply(self, x: Array, rng: np.random.Generator, out: Array) -> None:
        """See the class."""
        places = np.zeros((len(x), 3), np.int64)
        places[:, 2] = rng.random(len(x)) < self.p
        run_kernel("crop", x, out, places)


class RandomCrop(Transform):
    """A piece of `size` (an int, or height and width) from a random place of every image.

    padding: so many rows and columns of `fill` are put on all four sides first. `RandomCrop(32, padding=4)` moves
    CIFAR's images by up to 4 pixels. All places are equally likely; drawn are the rows, then the columns.

    Source: He et al. (2016), Deep residual learning, section 4.2.
    """

    def __init__(self, size: int | tuple[int, int], padding: int = 0, fill: float = 0.0) -> None:
        self.size = pair("RandomCrop", "size", size)
        self.padding = whole_number("RandomCrop", "padding", padding)
        if self.padding < 0:
            raise ValueError(f"RandomCrop: padding is {padding}; expected an int of at least 0")
        self.fill = real_number("RandomCrop", "fill", fill, infinite=True)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """(N, C, *size)."""
        check_room("RandomCrop", self.size, shape, self.padding)
        return *shape[:2], *self.size

    def apply(self, x: Array, rng: np.random.Generator, out: Array) -> None:
        """See the class."""
        places = np.zeros((len(x), 3), np.int64)
        for axis in (0, 1):
            room = x.shape[2 + axis] + 2 * self.padding - self.size[axis]
            places[:, axis] = rng.integers(room + 1, size=len(x)) - self.padding
        run_kernel("crop", x, out, places, self.fill)


class RandomResizedCrop(Transform):
    """A piece of every image of random place and scale, resized to `size` (an int, or height and width).

    As in torchvision: the piece has a share of the image's area drawn from `scale`, and a width-to-height ratio drawn,
    in log space, from `ratio`; where ten draws give none that fits into the image, the largest piece in its middle
    with the ratio nearest to the range is taken.

    With `short_side=(256, 480)`, as in the lecture: the image is resized so that its shorter side has a length drawn
    from the whole numbers of that range, then a piece of `size` is taken from a random place.

    Resizing is bilinear, and where it shrinks over a triangle as wide as that needs, as Pillow's BILINEAR: no aliasing.

    Sources: Szegedy et al. (2015), section 6; Simonyan and Zisserman (2015), section 3.1.
    """

    def __init__(
        self,
        size: int | tuple[int, int],
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        *,
        short_side: tuple[int, int] | None = None,
    ) -> None:
        title = "RandomResizedCrop"
        self.size = pair(title, "size", size)
        self.scale, self.ratio = (interval(title, n, v, low=0) for n, v in (("scale", scale), ("ratio", ratio)))
        if self.scale[1] > 1 or self.scale[0] == 0 or self.ratio[0] == 0:
            raise ValueError(
                f"{title}: scale is {scale!r} and ratio {ratio!r}; expected numbers above 0, scale up to 1"
            )
        self.short_side = None
        if short_side is not None:
            low, high = pair(title, "short_side", short_side)
            if not max(self.size) <= low <= high:
                raise ValueError(
                    f"{title}: short_side is {short_side!r}; expected (low, high) of at least size, {size!r}"
                )
            self.short_side = low, high

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """(N, C, *size)."""
        return *shape[:2], *self.size

    def apply(self, x: Array, rng: np.random.Generator, out: Array) -> None:
        """See the class."""
        height, width = x.shape[2:]
        boxes = self._by_area if self.short_side is None else self._by_side
        resize_boxes(x, *boxes(len(x), height, width, rng), out)

    def _by_area(self, n: int, height: int, width: int, rng: np.random.Generator) -> tuple[Array, Array]:
        tries = 10
        area = height * width * rng.uniform(*self.scale, size=(n, tries))
        ratio = log_uniform(rng, self.ratio, (n, tries))
        w, h = np.rint(np.sqrt(area * ratio)), np.rint(np.sqrt(area / ratio))
        fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
        first, rows = fits.argmax(axis=1), np.arange(n)
        w, h = w[rows, first], h[rows, first]
        top = np.floor(rng.random(n) * (height - h + 1))
        left = np.floor(rng.random(n) * (width - w + 1))
        if not fits.any(axis=1).all():
            none, nearest = ~fits.any(axis=1), np.clip(width / height, *self.ratio)
            wide, tall = min(width, round(height * nearest)), min(height, round(width / nearest))
            w[none], h[none] = wide, tall
            top[none], left[none] = (height - tall) // 2, (width - wide) // 2
        return np.stack([top, h], axis=1), np.stack([left, w], axis=1)

    def _by_side(self, n: int, height: int, width: int, rng: np.random.Generator) -> tuple[Array, Array]:
        assert self.short_side is not None
        low, high = self.short_side
        factor = rng.integers(low, high, endpoint=True, size=n) / min(height, width)
        spans = []
        for length, size in zip((height, width), self.size, strict=True):
            room = np.rint(length * factor) - size
            start = np.floor(rng.random(n) * (room + 1))
            spans.append(np.stack([start, np.full(n, size)], axis=1) * (length / (room + size))[:, None])
        return spans[0], spans[1]


def pair(title: str, name: str, value: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width, of at least 1, from one number or two."""
    values = value if isinstance(value, (tuple, list)) else (value, value)
    numbers = tuple(whole_number(title, name, number) for number in values)
    if len(numbers) != 2 or min(numbers) < 1:
        raise ValueError(f"{title}: {name} is {value!r}; expected an int of at least 1, or a pair of them")
    return numbers[0], numbers[1]


def check_room(title: str, size: tuple[int, int], shape: tuple[int, ...], padding: int = 0) -> None:
    """A crop must not be larger than the padded image."""
    if any(side > length + 2 * padding for side, length in zip(size, shape[2:], strict=True)):
        raise ValueError(
            f"{title}: size is {size}, x has shape {shape} and padding is {padding}; expected a smaller size"
        )
