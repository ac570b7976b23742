"""What a transform of the loader is, and the plain ones: chains, conversion, normalisation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastnn.arguments import overlap, plain, real_number, receiver, stored
from fastnn.data.moments import scaled
from fastnn.dispatch import host_implementation

Array = npt.NDArray[Any]


class Transform:
    """The base of transforms of batches of images (N, C, H, W) of float32 or float64: `y = transform(x, rng)`.

    What is random is drawn for every sample anew, from the generator `rng` alone: equal generators give equal results.
    `x` is left as it is unless it is also `out`. A class of its own fills `out` in `apply(x, rng, out)`. Any callable
    `t(x, rng) -> x` is a transform too; one that changes labels has an attribute `labels` that is true, and is called
    as `t(x, y, rng) -> (x, y)`.
    """

    labels: ClassVar[bool] = False
    in_place: ClassVar[bool] = False
    """Whether `out` may be `x` itself."""

    def apply(self, x: Array, rng: np.random.Generator, out: Array) -> None:
        """Fill `out` with what becomes of `x`; both have been checked."""
        raise NotImplementedError(f"{type(self).__name__} has no apply(self, x, rng, out)")

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of what becomes of a batch of this shape."""
        return shape

    def __call__(self, x: Array, rng: np.random.Generator, *, out: Array | None = None) -> Array:
        """The transformed batch, in `out` if that is given."""
        title = type(self).__name__
        check_images(title, x)
        if not isinstance(rng, np.random.Generator):
            raise TypeError(f"{title}: rng is of type {type(rng).__name__}; expected a numpy.random.Generator")
        shape = self.output_shape(x.shape)
        if out is None:
            out = np.empty(shape, x.dtype)
        elif out.shape != shape or out.dtype != x.dtype:
            raise ValueError(f"{title}: out is {out.dtype}{out.shape}; expected {x.dtype}{shape}")
        elif not (self.in_place and out is x) and overlap(out, x):
            raise ValueError(f"{title}: out overlaps x in memory; expected memory apart from it")
        self.apply(x, rng, out)
        return out

    def __repr__(self) -> str:
        """The class and what it was made with."""
        shown = (f"{name}={value!r}" for name, value in vars(self).items() if not name.startswith("_"))
        return f"{type(self).__name__}({', '.join(shown)})"


def check_images(title: str, x: Any) -> None:
    """Images must be an array (N, C, H, W) of float32 or float64."""
    if not isinstance(x, np.ndarray) or x.dtype not in (np.float32, np.float64):
        found = f"dtype {x.dtype}" if isinstance(x, np.ndarray) else f"type {type(x).__name__}"
        hint = "; ToFloat() makes float32 of uint8" if found == "dtype uint8" else ""
        raise TypeError(f"{title}: x has {found}; expected an array of float32 or float64{hint}")
    if x.ndim != 4:
        raise ValueError(f"{title}: x has shape {x.shape}; expected (N, C, H, W)")


class Compose:
    """Transforms one after the other, as one; with labels, if one of them has labels."""

    def __init__(self, transforms: Sequence[Callable[..., Any]]) -> None:
        for transform in transforms:
            check_transform("Compose", transform)
        self.transforms = tuple(transforms)
        self.labels = any(getattr(transform, "labels", False) for transform in transforms)

    def __call__(self, x: Array, *args: Any) -> Any:
        """`x`, or `(x, y)` where labels are changed: called as `(x, rng)` or `(x, y, rng)`."""
        *labels, rng = args
        y = labels[0] if labels else None
        for transform in self.transforms:
            if getattr(transform, "labels", False):
                x, y = transform(x, y, rng)
            else:
                x = transform(x, rng)
        return (x, y) if self.labels else x

    def __repr__(self) -> str:
        """The transforms."""
        return f"Compose([{', '.join(map(repr, self.transforms))}])"


def check_transform(title: str, transform: object) -> None:
    """A transform is something to call, not a class that has not been called yet."""
    if not callable(transform) or isinstance(transform, type):
        raise TypeError(f"{title}: a transform is {transform!r}; expected a callable (x, rng) -> x")


class ToFloat:
    """uint8 to float32, divided by 255; what is a float already stays as it is. Loaders do this by themselves."""

    def __call__(self, x: Array, rng: np.random.Generator | None = None) -> Array:
        """x / 255 in float32, or `x`."""
        return x if x.dtype in (np.float32, np.float64) else scaled(x, np.float32)

    def __repr__(self) -> str:
        """The class."""
        return "ToFloat()"


class Normalize(Transform):
    """y = (x - mean) / std with given numbers, one for all channels or one a channel.

    `PerChannelStandardize` finds the numbers itself.
    """

    in_place = True

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        self.mean, self.std = mean, std
        self._mean = np.array([real_number("Normalize", "mean", v) for v in np.atleast_1d(mean).tolist()])
        self._std = np.array([real_number("Normalize", "std", v, above=0) for v in np.atleast_1d(std).tolist()])

    def apply(self, x: Array, rng: np.random.Generator, out: Array) -> None:
        """See the class."""
        for name, given in (("mean", self._mean), ("std", self._std)):
            if len(given) not in (1, x.shape[1]):
                raise ValueError(
                    f"Normalize: {name} has {len(given)} numbers, x has shape {x.shape}; expected one a channel"
                )
        np.subtract(x, self._mean.astype(x.dtype)[:, None, None], out=out)
        out /= self._std.astype(x.dtype)[:, None, None]


def two_numbers(title: str, name: str, value: Any, low: float = 0, high: float = np.inf) -> tuple[float, float]:
    """A pair of numbers within bounds."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        error = ValueError if isinstance(value, (tuple, list)) else TypeError
        raise error(f"{title}: {name} is {value!r}; expected two numbers")
    first, second = (real_number(title, name, number, low=low, high=high) for number in value)
    return first, second


def interval(
    title: str, name: str, value: Any, *, around: float | None = None, low: float = -np.inf
) -> tuple[float, float]:
    """A range (low, high) to draw from; a single number d stands for (around - d, around + d), not below `low`."""
    if around is not None and not isinstance(value, (tuple, list)):
        width = real_number(title, name, value, low=0)
        return max(around - width, low), around + width
    first, last = two_numbers(title, name, value, low)
    if first > last:
        raise ValueError(f"{title}: {name} is {value!r}; expected the lower number first")
    return first, last


def log_uniform(rng: np.random.Generator, bounds: tuple[float, float], size: int | tuple[int, ...]) -> Array:
    """Factors whose logarithms are uniform between those of the bounds."""
    return np.exp(rng.uniform(np.log(bounds[0]), np.log(bounds[1]), size))


def run_kernel(name: str, x: Array, out: Array, parameters: Array, fill: float = 0.0) -> None:
    """Call a kernel of the backend in force that fills `out` by an array of parameters, a row for each sample."""
    if x.shape[2] * x.shape[3] >= 2**31:
        raise ValueError(f"{name}: x has shape {x.shape}; expected fewer than 2^31 pixels in an image")
    kernel, y = getattr(host_implementation("augmentation"), name), receiver(out, out.shape, out.dtype, out)
    kernel(plain(x), y, np.ascontiguousarray(parameters), np.array(fill, x.dtype))
    stored(y, out)
