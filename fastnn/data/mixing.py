"""Cutout and mixup as transforms of the loader."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastnn.arguments import flag, real_number, whole_number
from fastnn.data.crops import pair
from fastnn.data.transform import Transform, check_images
from fastnn.functions.augmentation import cutout, mixup

Array = npt.NDArray[Any]


class Cutout(Transform):
    """A box of `size` (an int, or height and width) around a random pixel of every image is overwritten with `fill`.

    See `fnn.cutout`. 0 is the mean of normalised images: apply it after normalisation.

    Source: DeVries and Taylor (2017).
    """

    in_place = True

    def __init__(self, size: int | tuple[int, int], fill: float = 0.0) -> None:
        self.size = pair("Cutout", "size", size)
        self.fill = real_number("Cutout", "fill", fill)

    def apply(self, x: Array, rng: np.random.Generator, out: Array) -> None:
        """See the class."""
        cutout(x, self.size, seed=_seed(rng), fill=self.fill, out=out)


class Mixup:
    """Every image of the batch is blended with another one, and so are their labels, which become soft: (N, classes).

    See `fnn.mixup`. alpha: of the Beta distribution that the weight is drawn from, for the batch or `per_sample`.

    Source: Zhang et al. (2018).
    """

    labels: ClassVar[bool] = True

    def __init__(self, alpha: float = 1.0, *, classes: int, per_sample: bool = False) -> None:
        self.alpha = real_number("Mixup", "alpha", alpha, low=0)
        self.classes = whole_number("Mixup", "classes", classes)
        self.per_sample = flag("Mixup", "per_sample", per_sample)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The same."""
        return shape

    def __call__(
        self, x: Array, y: Array, rng: np.random.Generator, *, out: Array | None = None
    ) -> tuple[Array, Array]:
        """The blended images, in `out` if that is given, and the soft labels."""
        check_images("Mixup", x)
        classes = self.classes if y.ndim == 1 else None
        options: dict[str, Any] = {"classes": classes, "per_sample": self.per_sample}
        mixed, soft, _, _ = mixup(x, y, self.alpha, seed=_seed(rng), out=out, **options)
        return mixed, soft

    def __repr__(self) -> str:
        """The class and what it was made with."""
        return f"Mixup(alpha={self.alpha}, classes={self.classes}, per_sample={self.per_sample})"


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**64, dtype=np.uint64))
