"""Layers that normalise every sample by itself: group, layer and RMS norm, and what all norms share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastnn.arguments import parameter_dtype, real_number
from fastnn.functions import normalization as functions
from fastnn.nn.checks import check_gradient, count, float_dtype_of, floating
from fastnn.nn.memory import Array
from fastnn.nn.module import Module
from fastnn.nn.parameter import Parameter


class Norm(Module):
    """What they share: scale `weight` and shift `bias`, in float32 beside half precision, and the checks of x."""

    wide_parameters = frozenset({"weight", "bias", "running_mean", "running_var"})
    dx_is_scratch = True
    y_is_scratch = True
    _learned: ClassVar[tuple[str, ...]] = ("dgamma", "dbeta")
    weight: Parameter | None
    bias: Parameter | None

    def _learn(self, shape: tuple[int, ...], weight: bool, bias: bool, dtype: npt.DTypeLike) -> None:
        """Scale 1 and shift 0, where they are wanted."""
        kind = parameter_dtype(float_dtype_of(type(self).__name__, dtype))
        self.weight = Parameter(np.ones(shape, kind)) if weight else None
        self.bias = Parameter(np.zeros(shape, kind)) if weight and bias else None

    @property
    def _affine(self) -> tuple[Array | None, Array | None]:
        """The arrays of scale and shift."""
        return (
            None if self.weight is None else self.weight.data,
            None if self.bias is None else self.bias.data,
        )

    def _checked(self, x: Any) -> Array:
        """x, a floating-point array that goes with the parameters' dtype."""
        title, array = type(self).__name__, floating(type(self).__name__, x)
        if self.weight is not None and self.weight.dtype != parameter_dtype(array.dtype):
            raise TypeError(
                f"{title}: x has dtype {array.dtype}; expected {self.weight.dtype}, as the layer's parameters have: "
                f"x.astype({self.weight.dtype.name!r}), or layer.to({array.dtype.name!r})"
            )
        return array

    def _backward(self, function: Callable[..., Any], dy: Any, x: Array, *known: Any, **options: Any) -> Array | None:
        """dx, and the gradients of scale and shift, by one of the functions `<name>_norm_backward`."""
        check_gradient(type(self).__name__, dy, x.shape, x.dtype)
        dx = function(dy, x, *known, **self._gradients(), out=self.gradient(dy), **options)[0]
        return dx if self.needs_input_grad else None

    def _gradients(self) -> dict[str, Any]:
        """Where the gradients of scale and shift go; those of frozen ones to memory that nobody reads."""
        if self.weight is None:
            return {}
        arrays, accumulate = self.claim_grads(self.weight, self.bias)
        memory = {
            name: self.workspace(name, self.weight.shape, self.weight.dtype) if array is None else array
            for name, array in zip(self._learned, arrays, strict=False)
        }
        return memory | {"accumulate": accumulate}

    def _statistics(self, x: Array, shape: tuple[int, ...], *names: str) -> dict[str, Any]:
        """Where the statistics of x go."""
        return {name: self.result(name, shape, parameter_dtype(x.dtype)) for name in names}


class GroupNorm(Norm):
    """Group norm of (N, C, *spatial): y = (x - mean) / sqrt(var + eps) * weight + bias.

    Mean and biased variance are those of a sample's C / num_groups channels and all positions; weight and bias, of
    shape (C,), are each channel's. It is the same in both modes and for every batch, of one too.

    Source: Wu and He (2018), Group Normalization, ECCV.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        dtype: npt.DTypeLike = np.float32,
        *,
        bias: bool = True,
    ) -> None:
        self.num_groups = count("GroupNorm", "num_groups", num_groups)
        self.num_channels = count("GroupNorm", "num_channels", num_channels)
        if self.num_channels % self.num_groups:
            raise ValueError(
                f"GroupNorm: num_groups is {num_groups} and num_channels {num_channels}; expected a number of groups "
                "that divides the channels"
            )
        self.eps, self.affine = real_number("GroupNorm", "eps", eps, above=0.0), affine
        self._learn((self.num_channels,), affine, bias, dtype)

    def forward(self, x: Any) -> Array:
        x = self._checked(x)
        if x.ndim < 2 or x.shape[1] != self.num_channels:
            raise ValueError(f"GroupNorm: x has shape {x.shape}; expected (N, {self.num_channels}, *spatial)")
        gamma, beta = self._affine
        out, given = (
            self.result("y", x.shape, x.dtype),
            self._statistics(x, (len(x), self.num_groups), "mean", "inv_std"),
        )
        y, mean, inv_std = functions.group_norm(x, self.num_groups, gamma, beta, self.eps, out=out, **given)
        self.save(x, mean, inv_std)
        return y

    def backward(self, dy: Any) -> Array | None:
        x, mean, inv_std = self.saved
        return self._backward(functions.group_norm_backward, dy, x, self.num_groups, self._affine[0], mean, inv_std)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps:g}, affine={self.affine}"


class _LastAxesNorm(Norm):
    """Layer and RMS norm: the last axes of x, which are of `normalized_shape`, are normalised together."""

    normalized_shape: tuple[int, ...]

    def _set_shape(self, normalized_shape: int | Sequence[int]) -> None:
        title = type(self).__name__
        lengths = normalized_shape if isinstance(normalized_shape, Sequence) else (normalized_shape,)
        if not lengths:
            raise ValueError(f"{title}: normalized_shape is {normalized_shape!r}; expected one number or more")
        self.normalized_shape = tuple(count(title, "normalized_shape", length) for length in lengths)

    def _checked(self, x: Any) -> Array:
        array, wanted = super()._checked(x), self.normalized_shape
        if array.shape[-len(wanted) :] != wanted:
            expected = ", ".join(map(str, wanted))
            raise ValueError(f"{type(self).__name__}: x has shape {array.shape}; expected (..., {expected})")
        return array


class LayerNorm(_LastAxesNorm):
    """Layer norm over the last axes: y = (x - mean) / sqrt(var + eps) * weight + bias.

    `normalized_shape`, a number or a tuple, is the shape of the axes that are normalised together, and of weight and
    bias. Mean and biased variance are those of each row of that shape. It is the same in both modes.

    Source: Ba, Kiros and Hinton (2016), Layer Normalization.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        self._set_shape(normalized_shape)
        self.eps = real_number("LayerNorm", "eps", eps, above=0.0)
        self.elementwise_affine = elementwise_affine
        self._learn(self.normalized_shape, elementwise_affine, bias, dtype)

    def forward(self, x: Any) -> Array:
        x = self._checked(x)
        gamma, beta = self._affine
        axis, out = -len(self.normalized_shape), self.result("y", x.shape, x.dtype)
        given = self._statistics(x, x.shape[:axis], "mean", "inv_std")
        y, mean, inv_std = functions.layer_norm(x, gamma, beta, axis=axis, eps=self.eps, out=out, **given)
        self.save(x, mean, inv_std)
        return y

    def backward(self, dy: Any) -> Array | None:
        x, mean, inv_std = self.saved
        axis = -len(self.normalized_shape)
        return self._backward(functions.layer_norm_backward, dy, x, self._affine[0], mean, inv_std, axis=axis)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps:g}, elementwise_affine={self.elementwise_affine}"


class RMSNorm(_LastAxesNorm):
    """RMS norm over the last axes: y = x / sqrt(mean(x^2) + eps) * weight; there is no bias.

    eps=None is the machine epsilon of x's dtype. It is the same in both modes.

    Source: Zhang and Sennrich (2019), Root Mean Square Layer Normalization, NeurIPS.
    """

    _learned = ("dgamma",)

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        self._set_shape(normalized_shape)
        self.eps = None if eps is None else real_number("RMSNorm", "eps", eps, above=0.0)
        self.elementwise_affine = elementwise_affine
        self._learn(self.normalized_shape, elementwise_affine, False, dtype)

    def forward(self, x: Any) -> Array:
        x = self._checked(x)
        axis, out = -len(self.normalized_shape), self.result("y", x.shape, x.dtype)
        given = self._statistics(x, x.shape[:axis], "inv_rms")
        y, inv_rms = functions.rms_norm(x, self._affine[0], axis=axis, eps=self.eps, out=out, **given)
        self.save(x, inv_rms)
        return y

    def backward(self, dy: Any) -> Array | None:
        x, inv_rms = self.saved
        axis = -len(self.normalized_shape)
        return self._backward(functions.rms_norm_backward, dy, x, self._affine[0], inv_rms, axis=axis)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
