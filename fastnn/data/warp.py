"""Random geometric changes of batches of images: affine maps and lens distortion."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.arguments import real_number
from fastnn.data.transform import Transform, interval, log_uniform, run_kernel, two_numbers

Array = npt.NDArray[Any]
Range = float | tuple[float, float]


class RandomAffine(Transform):
    """Every image is sheared, stretched, scaled, rotated about its middle, and moved, in this order.

    As in torchvision, where they are drawn from:
        degrees    the rotation, clockwise as seen: a number d for (-d, d), or (low, high)
        translate  (a, b): a move right of up to a times the width, down of up to b times the height, or
                   the other way, in whole pixels and parts of them
        scale      (low, high), a factor
        shear      in degrees, of rows against one another: x moves to x - tan(shear) y; a number d for (-d, d), or
                   (low, high)
    and beside it
        stretch    (low, high): a factor for the width alone, drawn in log space
        fill       what lies outside the image; between it and the border pixels it is interpolated

    Bilinear: every pixel of the result is looked up, by the inverse map, between four pixels of the image. Drawn are
    angle, move right, move down, scale, shear, stretch, an array of N each.
    """

    def __init__(
        self,
        degrees: Range,
        translate: tuple[float, float] | None = None,
        scale: tuple[float, float] | None = None,
        shear: Range | None = None,
        *,
        stretch: tuple[float, float] | None = None,
        fill: float = 0.0,
    ) -> None:
        title = "RandomAffine"
        self.degrees = interval(title, "degrees", degrees, around=0)
        self.translate = two_numbers(title, "translate", (0, 0) if translate is None else translate, high=1)
        self.scale = interval(title, "scale", (1, 1) if scale is None else scale, low=0)
        self.shear = interval(title, "shear", 0 if shear is None else shear, around=0)
        self.stretch = interval(title, "stretch", (1, 1) if stretch is None else stretch, low=0)
        if self.scale[0] == 0 or self.stretch[0] == 0:
            raise ValueError(f"{title}: scale is {scale!r} and stretch {stretch!r}; expected factors above 0")
        if max(map(abs, self.shear)) >= 90:
            raise ValueError(f"{title}: shear is {shear!r}; expected less than 90 degrees")
        self.fill = real_number(title, "fill", fill)

    def apply(self, x: Array, rng: np.random.Generator, out: Array) -> None:
        """See the class."""
        height, width = x.shape[2:]
        matrix, move = self._drawn(len(x), height, width, rng)
        inverse = np.linalg.inv(matrix)
        # A pixel of the result, minus the move, is taken back by the inverse, both in (x, y) from the middle.
        start = ((width - 1) / 2, (height - 1) / 2) - np.einsum("nij,nj->ni", inverse, move)
        maps = np.concatenate([inverse.reshape(-1, 4), start, np.zeros((len(x), 1))], axis=1)
        run_kernel("warp", x, out, maps, self.fill)

    def _drawn(self, n: int, height: int, width: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """The maps of (x, y) about the middle, y downwards: matrices (n, 2, 2) and moves (n, 2)."""
        angle = np.deg2rad(rng.uniform(*self.degrees, size=n))
        move = np.stack(
            [rng.uniform(-a * s, a * s, n) for a, s in zip(self.translate, (width, height), strict=True)], axis=1
        )
        scale = rng.uniform(*self.scale, size=n)
        shear = np.tan(np.deg2rad(rng.uniform(*self.shear, size=n)))
        stretch = log_uniform(rng, self.stretch, n)
        cos, sin, one, zero = np.cos(angle), np.sin(angle), np.ones(n), np.zeros(n)
        rotation = _matrices(cos, -sin, sin, cos)
        stretched = _matrices(scale * stretch, zero, zero, scale)
        return rotation @ stretched @ _matrices(one, -shear, zero, one), move


class LensDistortion(Transform):
    """Every image is distorted as by a lens: radially, about its middle.

    The pixel at distance r from the middle, in units of half the diagonal, is looked up at r (1 + k1 r^2), with k1
    drawn from (-k1, k1) for a number, or from a range (low, high). Positive k1 shows more than the image, `fill`
    outside (barrel), negative less (pincushion). Bilinear, as RandomAffine.

    Source: the first term of Brown's model (1966), Decentering distortion of lenses.
    """

    def __init__(self, k1: Range = 0.2, *, fill: float = 0.0) -> None:
        self.k1 = interval("LensDistortion", "k1", k1, around=0)
        if self.k1[0] <= -1 / 3:
            raise ValueError(f"LensDistortion: k1 is {k1!r}; expected more than -1/3, below which the image folds over")
        self.fill = real_number("LensDistortion", "fill", fill)

    def apply(self, x: Array, rng: np.random.Generator, out: Array) -> None:
        """See the class."""
        height, width = x.shape[2:]
        maps = np.empty((len(x), 7))
        maps[:, :6] = 1, 0, 0, 1, (width - 1) / 2, (height - 1) / 2
        maps[:, 6] = rng.uniform(*self.k1, size=len(x)) * (4 / (height**2 + width**2))
        run_kernel("warp", x, out, maps, self.fill)


def _matrices(a: Array, b: Array, c: Array, d: Array) -> Array:
    return np.stack([np.stack([a, b], axis=-1), np.stack([c, d], axis=-1)], axis=-2)
