"""Changes of the colours of batches of images whose values are from 0 to 1."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.arguments import real_number
from fastnn.data.moments import chunks, covariance, mean_and_variance, number_array, principal_axes
from fastnn.data.transform import Transform, interval

Array = npt.NDArray[Any]

LUMA = np.array([0.299, 0.587, 0.114])  # the weights of R, G, B in a grey value (ITU-R BT.601), as in Pillow


class ColorJitter(Transform):
    """Random brightness, contrast and saturation for every image, in this order; images in [0, 1] stay there.

    A factor f is drawn from (max(0, 1 - d), 1 + d) for a number d, or from a range (low, high):

        brightness  y = f x
        contrast    y = f x + (1 - f) m, with m the mean grey value of the image
        saturation  y = f x + (1 - f) g, with g the grey value of the pixel

    each cut off at 0 and 1. As in torchvision, which shuffles the order. The grey value of R, G, B is
    0.299 R + 0.587 G + 0.114 B; of any other number of channels, their mean. Apply it before images are normalised.
    """

    in_place = True

    def __init__(
        self,
        brightness: float | tuple[float, float] = 0.0,
        contrast: float | tuple[float, float] = 0.0,
        saturation: float | tuple[float, float] = 0.0,
    ) -> None:
        self.brightness, self.contrast, self.saturation = (
            interval("ColorJitter", name, value, around=1, low=0)
            for name, value in (("brightness", brightness), ("contrast", contrast), ("saturation", saturation))
        )

    def apply(self, x: Array, rng: np.random.Generator, out: Array) -> None:
        """See the class."""
        factors = (
            rng.uniform(*bounds, size=(len(x), 1, 1, 1)).astype(x.dtype)
            for bounds in (self.brightness, self.contrast, self.saturation)
        )
        brightness, contrast, saturation = factors
        luma = (LUMA if x.shape[1] == 3 else np.full(x.shape[1], 1 / x.shape[1])).astype(x.dtype)
        np.multiply(x, brightness, out=out)
        np.clip(out, 0, 1, out=out)
        if self.contrast != (1, 1):
            mean = (out.mean(axis=(2, 3)) @ luma)[:, None, None, None]
            _blend(out, contrast, mean)
        if self.saturation != (1, 1):
            _blend(out, saturation, np.einsum("nchw,c->nhw", out, luma)[:, None])


def _blend(x: Array, factor: Array, other: Array) -> None:
    """x = factor x + (1 - factor) other, cut off at 0 and 1."""
    x *= factor
    x += (1 - factor) * other
    np.clip(x, 0, 1, out=x)


class PCAColor(Transform):
    """To every image a random multiple of the principal axes of the training set's colours is added.

    y = x + sum_k a_k lambda_k u_k for every pixel, with a_k drawn from N(0, std^2) for every image, u_k and lambda_k
    the eigenvectors and eigenvalues of the covariance of the pixels' channels, of values in [0, 1]. `fit(x)` finds
    them in the training set (N, C, H, W), as it is stored or in floats; or give `eigenvectors` (k, C), as rows, and
    `eigenvalues` (k,). The result is not cut off: apply it after ColorJitter, before images are normalised.

    Source: Krizhevsky, Sutskever and Hinton (2012), section 4.1 (AlexNet).
    """

    in_place = True

    def __init__(
        self, std: float = 0.1, eigenvectors: npt.ArrayLike | None = None, eigenvalues: npt.ArrayLike | None = None
    ) -> None:
        self.std = real_number("PCAColor", "std", std, low=0)
        if (eigenvectors is None) != (eigenvalues is None):
            raise TypeError(
                "PCAColor: one of eigenvectors and eigenvalues is None; expected both, or neither and fit(x)"
            )
        self.eigenvectors: Array | None = None
        self.eigenvalues: Array | None = None
        if eigenvectors is not None and eigenvalues is not None:
            vectors, values = np.asarray(eigenvectors, np.float64), np.asarray(eigenvalues, np.float64)
            if vectors.ndim != 2 or values.shape != vectors.shape[:1]:
                raise ValueError(
                    f"PCAColor: eigenvectors has shape {vectors.shape} and eigenvalues {values.shape}; "
                    "expected (k, C) and (k,)"
                )
            self.eigenvectors, self.eigenvalues = vectors, values

    def fit(self, x: npt.ArrayLike) -> PCAColor:
        """Find the principal axes of the channels of `x` (N, C, H, W)."""
        array = number_array("PCAColor.fit", x)
        if array.ndim != 4 or array.size == 0:
            raise ValueError(f"PCAColor.fit: x has shape {array.shape}; expected (N, C, H, W)")
        mean, _, count = mean_and_variance(array, (0, 2, 3))
        pixels = (np.moveaxis(piece, 1, 3).reshape(-1, array.shape[1]) for piece in chunks(array))
        self.eigenvalues, self.eigenvectors = principal_axes(covariance(pixels, mean.reshape(-1), count))
        return self

    def apply(self, x: Array, rng: np.random.Generator, out: Array) -> None:
        """See the class."""
        if self.eigenvectors is None or self.eigenvalues is None:
            raise RuntimeError("PCAColor: there are no eigenvectors; call fit(x) first, or give them")
        if self.eigenvectors.shape[1] != x.shape[1]:
            raise ValueError(f"PCAColor: x has shape {x.shape}; expected {self.eigenvectors.shape[1]} channels")
        share = rng.normal(scale=self.std, size=(len(x), len(self.eigenvalues))) * self.eigenvalues
        np.add(x, (share @ self.eigenvectors).astype(x.dtype)[:, :, None, None], out=out)
