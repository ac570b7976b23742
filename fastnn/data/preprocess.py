"""Preprocessing that is fitted on the training set and applied to all data: shifts and scales, and chains of steps.

The interface is scikit-learn's: `fit`, `transform`, `fit_transform`, `inverse_transform`, `get_params`, `set_params`,
fitted attributes with an underscore at the end. Beside it, `state_dict` and `from_state` for saving the fitted state
with a model, and a call `step(x, rng)`, which makes every step a transform for the loader.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from fastnn.data.moments import mean_and_variance, number_array, scaled

Array = npt.NDArray[Any]

_KINDS: dict[str, type[Preprocessor]] = {}


class Preprocessor:
    """The base of preprocessing steps.

    uint8 is read as x / 255 everywhere, so that a step that was fitted on images as they are stored serves images in
    [0, 1] too. Statistics are float64; they are gathered a piece at a time, without a copy of the whole set. What is
    transformed is float64 for float64, else float32.
    """

    in_place: ClassVar[bool] = True
    """Whether `out` may be `x` itself."""
    fitted: ClassVar[tuple[str, ...]] = ()
    """The arrays that `fit` makes."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Make the class known to `from_state`."""
        super().__init_subclass__(**kwargs)
        _KINDS[cls.__name__] = cls

    def fit(self, x: npt.ArrayLike, y: object = None) -> Self:
        """Gather the statistics of `x` (N, ...); `y` is not used."""
        raise NotImplementedError(f"{type(self).__name__} has no fit(self, x, y=None)")

    def transform(self, x: npt.ArrayLike, *, out: Array | None = None) -> Array:
        """The step, applied to `x` (N, ...), in `out` if that is given."""
        raise NotImplementedError(f"{type(self).__name__} has no transform(self, x, *, out=None)")

    def inverse_transform(self, x: npt.ArrayLike) -> Array:
        """What `transform` makes `x` of."""
        raise NotImplementedError(f"{type(self).__name__} has no inverse_transform(self, x)")

    def fit_transform(self, x: npt.ArrayLike, y: object = None) -> Array:
        """`fit`, then `transform`."""
        return self.fit(x, y).transform(x)

    def __call__(self, x: Array, rng: np.random.Generator | None = None, *, out: Array | None = None) -> Array:
        """`transform`, as a transform for the loader: nothing about it is random."""
        return self.transform(x, out=out)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of what `transform` makes of an array of this shape."""
        return shape

    # Parameters

    @classmethod
    def _names(cls) -> list[str]:
        return [name for name in inspect.signature(cls.__init__).parameters if name not in ("self", "args", "kwargs")]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments of the constructor by name."""
        return {name: getattr(self, name) for name in self._names()}

    def set_params(self, **params: Any) -> Self:
        """Set arguments of the constructor by name."""
        known = self._names()
        for name in params:
            if name not in known:
                raise ValueError(f"{type(self).__name__}.set_params: {name!r}; expected one of {known}")
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        """The class and its arguments."""
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.get_params(deep=False).items())})"

    # State

    def state_dict(self) -> dict[str, Array]:
        """Arguments and fitted arrays by keys such as "Whitening.eps": what a safetensors file can hold."""
        self._check_fitted("state_dict")
        kind = type(self).__name__
        given = {name: value for name, value in self.get_params(deep=False).items() if value is not None}
        arrays = {name: np.asarray(value) for name, value in given.items()}
        arrays |= {name: getattr(self, name) for name in self.fitted}
        return {f"{kind}.{name}": np.array(value) for name, value in arrays.items()}

    @classmethod
    def _from_state(cls, state: Mapping[str, Array]) -> Self:
        wanted = [*cls._names(), *cls.fitted]
        unknown, lacking = [n for n in state if n not in wanted], [n for n in cls.fitted if n not in state]
        if unknown or lacking:
            raise ValueError(f"from_state: {cls.__name__} has {list(state)}; expected {wanted}")
        step = cls(**{name: np.asarray(state[name]).item() for name in cls._names() if name in state})
        for name in cls.fitted:
            setattr(step, name, np.array(state[name]))
        return step

    def _check_fitted(self, what: str) -> None:
        if not all(hasattr(self, name) for name in self.fitted):
            raise RuntimeError(f"{type(self).__name__}.{what}: there is nothing fitted; call fit(x) first")


def from_state(state: Mapping[str, npt.ArrayLike]) -> Preprocessor:
    """The preprocessing whose `state_dict` this is, a single step or a pipeline."""
    groups: dict[str, dict[str, Array]] = {}
    for key, value in state.items():
        head, _, rest = key.partition(".")
        groups.setdefault(head, {})[rest] = np.asarray(value)
    if groups and all(head.isdigit() for head in groups):
        return Pipeline([from_state(groups[head]) for head in sorted(groups, key=int)])
    kind = _KINDS.get(next(iter(groups), ""))
    if kind is None or len(groups) != 1:
        raise ValueError(f"from_state: state is of {', '.join(groups) or 'nothing'}; expected one of {sorted(_KINDS)}")
    return kind._from_state(groups[kind.__name__])


class _ShiftAndScale(Preprocessor):
    """y = (x - mean) / scale, with statistics per feature or per channel."""

    fitted: ClassVar[tuple[str, ...]] = ("mean_",)
    per_channel: ClassVar[bool] = False
    scales: ClassVar[bool] = False

    mean_: Array
    scale_: Array

    def fit(self, x: npt.ArrayLike, y: object = None) -> Self:
        """Gather mean and, where there is one, scale from `x` (N, ...)."""
        title = f"{type(self).__name__}.fit"
        array = number_array(title, x)
        if array.size == 0:
            raise ValueError(f"{title}: x has shape {array.shape}, without a number in it; expected samples")
        axes = (0, *range(2, array.ndim)) if self.per_channel else (0,)
        mean, variance, count = mean_and_variance(array, axes)
        self.mean_ = mean[0]
        if self.scales:
            # A constant has, by rounding, a tiny variance. The bound is that of scikit-learn's StandardScaler, from
            # the error analysis of Chan, Golub and LeVeque (1983).
            eps = np.finfo(np.float64).eps
            constant = variance <= count * eps * variance + (count * mean * eps) ** 2
            self.scale_ = np.where(constant, 1, np.sqrt(variance))[0]
        return self

    def transform(self, x: npt.ArrayLike, *, out: Array | None = None) -> Array:
        """y = (x - mean) / scale for `x` (N, ...) of the fitted shape."""
        array = self._checked("transform", x)
        dtype = np.dtype(np.float64 if array.dtype == np.float64 else np.float32)
        _check_target(f"{type(self).__name__}.transform", out, array.shape, dtype)
        y = np.empty(array.shape, dtype) if out is None else out
        if array.dtype == np.uint8:
            np.subtract(scaled(array, dtype, y), self.mean_.astype(dtype), out=y)
        else:
            np.subtract(array, self.mean_.astype(dtype), out=y, dtype=dtype, casting="unsafe")
        if self.scales:
            y /= self.scale_.astype(dtype)
        return y

    def inverse_transform(self, x: npt.ArrayLike) -> Array:
        """x scale + mean: images come back in [0, 1]."""
        array = self._checked("inverse_transform", x)
        dtype = np.dtype(np.float64 if array.dtype == np.float64 else np.float32)
        y = array.astype(dtype)
        if self.scales:
            y *= self.scale_.astype(dtype)
        y += self.mean_.astype(dtype)
        return y

    def _checked(self, what: str, x: Any) -> Array:
        self._check_fitted(what)
        title = f"{type(self).__name__}.{what}"
        array, shape = number_array(title, x), self.mean_.shape
        fits = array.shape[1:2] == shape[:1] if self.per_channel else array.shape[1:] == shape
        if not fits or array.ndim != len(shape) + 1:
            known = ", ".join(["N", *map(str, shape[:1] if self.per_channel else shape), *["..."] * self.per_channel])
            raise ValueError(f"{title}: x has shape {array.shape}; expected ({known}), as in fit")
        return array


class Standardize(_ShiftAndScale):
    """y = (x - mean) / std, per feature: of zero mean and unit variance on the training set.

    The features are all the numbers of a sample: `mean_` and `scale_` have its shape. The variance is the biased one;
    a feature that is constant is shifted only. scikit-learn: StandardScaler.
    """

    fitted = ("mean_", "scale_")
    scales = True


class MeanImage(_ShiftAndScale):
    """y = x - mean image, per feature; `mean_` has a sample's shape.

    Source: Krizhevsky, Sutskever and Hinton (2012), section 2 (AlexNet).
    """


class PerChannelMean(_ShiftAndScale):
    """y = x - mean of its channel, for (N, C, ...); `mean_` has shape (C, 1, ...).

    Source: Simonyan and Zisserman (2015), section 2.1 (VGG).
    """

    per_channel = True


class PerChannelStandardize(_ShiftAndScale):
    """y = (x - mean) / std of its channel, for (N, C, ...); `mean_` and `scale_` have shape (C, 1, ...).

    The variance is the biased one. As is usual for residual networks (He et al. 2016).
    """

    fitted = ("mean_", "scale_")
    per_channel = True
    scales = True


class Pipeline(Preprocessor):
    """Steps in a row: each is fitted on what those before it make of the training set.

    Fitting a later step needs the training set as the earlier ones make it, all of it, in float32.
    """

    def __init__(self, steps: Sequence[Preprocessor]) -> None:
        self.steps = steps

    def fit(self, x: npt.ArrayLike, y: object = None) -> Self:
        """Fit the steps in their order."""
        steps = self._checked()
        for step in steps[:-1]:
            x = step.fit_transform(x, y)
        for step in steps[-1:]:
            step.fit(x, y)
        return self

    def transform(self, x: npt.ArrayLike, *, out: Array | None = None) -> Array:
        """The steps in their order."""
        steps = self._checked()
        if not steps:
            y = np.asarray(x)
        for i, step in enumerate(steps):
            # Between the steps there is memory of ours, which the next one may overwrite.
            target = out if i == len(steps) - 1 else y if i and step.in_place else None
            y = step.transform(x if i == 0 else y, out=target)
        return y

    def inverse_transform(self, x: npt.ArrayLike) -> Array:
        """The inverse steps in reverse order."""
        y = np.asarray(x)
        for step in reversed(self._checked()):
            y = step.inverse_transform(y)
        return y

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of what `transform` makes of an array of this shape."""
        for step in self._checked():
            shape = step.output_shape(shape)
        return shape

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """`steps`; if `deep`, also the steps by number and their arguments, such as `1__eps`."""
        found: dict[str, Any] = {"steps": self.steps}
        if deep:
            for i, step in enumerate(self.steps):
                found[str(i)] = step
                found |= {f"{i}__{name}": value for name, value in step.get_params().items()}
        return found

    def set_params(self, **params: Any) -> Self:
        """Set `steps`, or arguments of steps by names such as `1__eps`."""
        known = self.get_params()
        for name, value in params.items():
            head, _, rest = name.partition("__")
            if name == "steps":
                self.steps = value
            elif rest and head in known:
                known[head].set_params(**{rest: value})
            else:
                raise ValueError(f"Pipeline.set_params: {name!r}; expected one of {sorted(known)}")
        return self

    def state_dict(self) -> dict[str, Array]:
        """The states of the steps, their keys numbered, such as "0.Standardize.mean_"."""
        return {f"{i}.{k}": v for i, step in enumerate(self._checked()) for k, v in step.state_dict().items()}

    def _checked(self) -> Sequence[Preprocessor]:
        for step in self.steps:
            if not isinstance(step, Preprocessor):
                raise TypeError(f"Pipeline: a step is of type {type(step).__name__}; expected a Preprocessor")
        return self.steps


def _check_target(title: str, out: Array | None, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if out is not None and (out.shape != shape or out.dtype != dtype):
        raise ValueError(f"{title}: out is {out.dtype}{out.shape}; expected {dtype}{shape}")
