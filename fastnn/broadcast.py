"""How the shape of a learned parameter meets the shape of the input. The one place with this rule."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Shape = tuple[int, ...]


def split_shape(x_shape: Shape, alpha_shape: Shape) -> tuple[int, int, int] | None:
    """x's shape as (outer, channels, inner), alpha varying along `channels`; None where it is not of that form."""
    padded = (1,) * (len(x_shape) - len(alpha_shape)) + alpha_shape
    varying = [axis for axis, length in enumerate(padded) if length != 1]
    first, end = (varying[0], varying[-1] + 1) if varying else (0, 0)
    if padded[first:end] != x_shape[first:end]:
        return None
    outer, channels, inner = (math.prod(part) for part in (x_shape[:first], x_shape[first:end], x_shape[end:]))
    return outer, channels, inner


def aligned_shape(x_shape: Shape, alpha_shape: Shape) -> Shape:
    """The shape under which a parameter broadcasts to `x_shape` by NumPy's rule.

    One number serves every element. A 1-D parameter as long as axis 1 of an input of two or more dimensions holds one
    value per channel, as in PyTorch. Anything else broadcasts as NumPy has it, but must not enlarge x.
    """
    if all(length == 1 for length in alpha_shape):
        return ()
    if len(x_shape) >= 2 and alpha_shape == (x_shape[1],):
        return (*alpha_shape, *(1,) * (len(x_shape) - 2))
    if len(alpha_shape) > len(x_shape) or any(
        length not in (1, wanted) for length, wanted in zip(reversed(alpha_shape), reversed(x_shape), strict=False)
    ):
        raise ValueError(
            f"alpha has shape {alpha_shape} beside an input of shape {x_shape}; expected one number, one per channel "
            "(axis 1), or a shape that broadcasts to the input's"
        )
    return alpha_shape


def align_parameter(x_shape: Shape, alpha: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A view of `alpha` that broadcasts to `x_shape` by NumPy's rule."""
    return alpha.reshape(aligned_shape(x_shape, alpha.shape))


def reduce_to(gradient: npt.NDArray[Any], alpha_shape: Shape) -> npt.NDArray[Any]:
    """Sum a gradient that has x's shape over the axes along which a parameter of `alpha_shape` was broadcast.

    Sums run in float64 and are rounded once to the gradient's dtype.
    """
    shape = aligned_shape(gradient.shape, alpha_shape)
    padded = (1,) * (gradient.ndim - len(shape)) + shape
    axes = tuple(axis for axis, length in enumerate(padded) if length == 1 and gradient.shape[axis] != 1)
    if not axes:
        return gradient.reshape(alpha_shape)
    with np.errstate(all="ignore"):
        total = np.sum(gradient, axis=axes, dtype=np.float64, keepdims=True)
        return total.astype(gradient.dtype).reshape(alpha_shape)  # lazy for a Dask array
