"""PCA and whitening: rotations of the data that leave its features uncorrelated."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from fastnn.arguments import flag, real_number, stored, whole_number
from fastnn.data.moments import chunks, covariance, mean_and_variance, number_array, principal_axes, scaled
from fastnn.data.preprocess import Preprocessor

Array = npt.NDArray[Any]


class PCA(Preprocessor):
    """y = (x - mean) U: decorrelated features, those of the largest variance first. (N, ...) becomes (N, k).

    U holds the eigenvectors of the training set's covariance, as rows in `components_` (k, D), with the variances
    along them in `explained_variance_` (k,); divisor N - 1, as scikit-learn's PCA has it. `inverse_transform` gives
    samples of the fitted shape, the best approximation there is if k < D.

    n_components: k; None keeps all D. Fitting takes D x D numbers of float64 and O(N D^2 + D^3) operations. Products
    and eigenvectors are NumPy's: their last bits may depend on the number of threads of its BLAS.
    """

    in_place = False
    fitted = ("mean_", "components_", "explained_variance_")

    mean_: Array
    components_: Array
    explained_variance_: Array

    def __init__(self, n_components: int | None = None) -> None:
        self.n_components = n_components

    def fit(self, x: npt.ArrayLike, y: object = None) -> Self:
        """Gather the mean and the principal axes of `x` (N, ...)."""
        title = f"{type(self).__name__}.fit"
        array = number_array(title, x)
        size = math.prod(array.shape[1:])
        if len(array) < 2 or size == 0:
            raise ValueError(f"{title}: x has shape {array.shape}; expected at least 2 samples, and features")
        wanted = self.n_components
        kept = size if wanted is None else whole_number(title, "n_components", wanted)
        if not 1 <= kept <= size:
            raise ValueError(f"{title}: n_components is {kept}; expected None or 1 to {size}, the number of features")
        self._check_options(title)
        mean, variance, count = mean_and_variance(array, (0,))
        if not np.isfinite(variance).all():
            raise ValueError(f"{title}: x has NaN, infinity or numbers too large to square in it; expected finite ones")
        rows = (piece.reshape(len(piece), -1) for piece in chunks(array))
        values, axes = principal_axes(covariance(rows, mean.reshape(-1), count))
        self.mean_ = mean[0]
        self.components_, self.explained_variance_ = axes[:kept].copy(), values[:kept]
        return self

    def transform(self, x: npt.ArrayLike, *, out: Array | None = None) -> Array:
        """(x - mean) W for `x` (N, ...) of the fitted shape."""
        self._check_fitted("transform")
        title = f"{type(self).__name__}.transform"
        array = number_array(title, x)
        if array.shape[1:] != self.mean_.shape:
            raise ValueError(f"{title}: x has shape {array.shape}; expected {('N', *self.mean_.shape)}, as in fit")
        dtype = np.dtype(np.float64 if array.dtype == np.float64 else np.float32)
        shape = self.output_shape(array.shape)
        if out is not None and (out.shape != shape or out.dtype != dtype):
            raise ValueError(f"{title}: out is {out.dtype}{out.shape}; expected {dtype}{shape}")
        centered = scaled(array, dtype) - self.mean_.astype(dtype)
        y = np.empty(shape, dtype) if out is None or not out.flags.c_contiguous else out
        size = len(array), math.prod(shape[1:])
        np.matmul(centered.reshape(len(array), -1), self._matrix(dtype), out=y.reshape(size))
        return stored(y, out)

    def inverse_transform(self, x: npt.ArrayLike) -> Array:
        """Back from the principal axes, to samples of the fitted shape: images in [0, 1]."""
        self._check_fitted("inverse_transform")
        title = f"{type(self).__name__}.inverse_transform"
        array = number_array(title, x)
        if array.shape[1:] != self.output_shape((1, *self.mean_.shape))[1:]:
            raise ValueError(f"{title}: x has shape {array.shape}; expected what transform gives")
        dtype = np.dtype(np.float64 if array.dtype == np.float64 else np.float32)
        back = array.reshape(len(array), -1).astype(dtype, copy=False) @ self._backward().astype(dtype)
        return back.reshape(len(array), *self.mean_.shape) + self.mean_.astype(dtype)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """(N, ...) becomes (N, k)."""
        return shape[0], len(self.components_)

    def _check_options(self, title: str) -> None:
        """Arguments beside n_components, for classes that have some."""

    def _matrix(self, dtype: np.dtype[Any]) -> Array:
        """W in a dtype, made once for what has been fitted and chosen: for ZCA it costs a product of matrices."""
        key = id(self.components_), tuple(self.get_params().values()), dtype
        held: tuple[Any, Array] | None = self.__dict__.get("_held")
        if held is None or held[0] != key:
            held = self.__dict__["_held"] = key, self._forward().astype(dtype)
        return held[1]

    def _forward(self) -> Array:
        """W, of shape (D, k) or, for a rotation back, (D, D)."""
        return self.components_.T

    def _backward(self) -> Array:
        """What takes the result back to x - mean."""
        return self.components_


class Whitening(PCA):
    """y = (x - mean) U / sqrt(variance + eps): features that are uncorrelated and of unit variance.

    eps, in the units of a variance, keeps axes along which the data hardly vary, which are noise, from being blown
    up. zca: rotate back by U^T, so that images stay images, and keep their shape: (N, ...) stays (N, ...).

    Source: CS231n 2017, lecture 6; ZCA: Krizhevsky (2009), appendix A.
    """

    def __init__(self, n_components: int | None = None, *, eps: float = 1e-5, zca: bool = False) -> None:
        super().__init__(n_components)
        self.eps = eps
        self.zca = zca

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """(N, ...) becomes (N, k), or stays as it is for ZCA."""
        return shape if self.zca else super().output_shape(shape)

    def _check_options(self, title: str) -> None:
        real_number(title, "eps", self.eps, low=0)
        flag(title, "zca", self.zca)

    def _forward(self) -> Array:
        spread = np.sqrt(self.explained_variance_ + self.eps)
        # Without eps an axis of no variance stays at 0, where the centred data already are.
        rows = self.components_ / np.where(spread > 0, spread, np.inf)[:, None]
        return rows.T @ self.components_ if self.zca else rows.T

    def _backward(self) -> Array:
        rows = self.components_ * np.sqrt(self.explained_variance_ + self.eps)[:, None]
        return self.components_.T @ rows if self.zca else rows
