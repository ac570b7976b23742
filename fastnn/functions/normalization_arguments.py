"""What the public functions of the family `normalization` ask of their arguments."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.arguments import (
    check_updated,
    check_written,
    common_array,
    flag,
    plain,
    real_array,
    real_number,
    receiver,
    stored,
)
from fastnn.arrays import namespace

Array = npt.NDArray[Any]
Shape = tuple[int, ...]


def channels_array(title: str, x: npt.ArrayLike, least: int = 2) -> Array:
    array = real_array(title, "x", x)
    if array.ndim < least:
        wanted = "(N, C) or (N, C, *spatial)" if least == 2 else "(N, C, *spatial)"
        raise ValueError(f"{title}: x has shape {array.shape}; expected {wanted}")
    return array


def gradient_arrays(title: str, dy: npt.ArrayLike, x: Array) -> tuple[Array, Array]:
    if type(dy) is not type(x) or dy.dtype != x.dtype:
        dy, x = common_array(title, ("dy", "x"), (dy, x))
    if dy.shape != x.shape:
        raise ValueError(f"{title}: dy has shape {dy.shape} and x has shape {x.shape}; expected the same shape")
    return dy, x


def affine_arrays(
    title: str, gamma: npt.ArrayLike | None, beta: npt.ArrayLike | None, shape: Shape, dtype: np.dtype[Any], x: Array
) -> tuple[Array, Array]:
    """gamma and beta, 1 and 0 where there is none, beside x."""
    return (
        namespace(x).ones(shape, dtype) if gamma is None else parameter_array(title, "gamma", gamma, shape, dtype),
        namespace(x).zeros(shape, dtype) if beta is None else parameter_array(title, "beta", beta, shape, dtype),
    )


def parameter_array(title: str, name: str, value: npt.ArrayLike, shape: Shape, dtype: np.dtype[Any]) -> Array:
    if type(value) is np.ndarray and value.dtype == dtype and value.shape == shape and value.flags.carray:
        return value  # the short way
    array = real_array(title, name, value)
    if array.shape != shape:
        raise ValueError(f"{title}: {name} has shape {array.shape}; expected {shape}")
    with np.errstate(all="ignore"):
        return plain(array.astype(dtype, copy=False))


def checked_eps(title: str, eps: float) -> float:
    return real_number(title, "eps", eps, above=0.0)


def statistics_memory(
    title: str,
    given: dict[str, Array | None],
    shape: Shape,
    dtype: np.dtype[Any],
    others: dict[str, Array | None],
    x: Array,
) -> list[Array]:
    """Where kernels may write statistics: in the arrays that are given, if they are plain, else beside x."""
    for name, array in given.items():
        if array is not None:
            check_updated(title, name, array, shape, dtype)
    check_written(title, given, others)
    return [receiver(array, shape, dtype, x) for array in given.values()]


def gradients_memory(
    title: str,
    given: dict[str, Array | None],
    wanted: bool,
    accumulate: bool,
    shape: Shape,
    dtype: np.dtype[Any],
    others: dict[str, Array | None],
    x: Array,
) -> list[Array] | None:
    """The same for the gradients of gamma and beta, which hold what is to be added to; None where there is no gamma."""
    accumulate = flag(title, "accumulate", accumulate)
    for name, array in given.items():
        if array is not None:
            if not wanted:
                raise ValueError(f"{title}: {name} is an array and gamma is None; expected gamma beside it")
            check_updated(title, name, array, shape, dtype)
        elif accumulate and wanted:
            raise ValueError(f"{title}: accumulate adds to {name}, which is None; expected an array of shape {shape}")
    check_written(title, given, others)
    if not wanted:
        return None
    return [
        plain(array) if accumulate and array is not None else receiver(array, shape, dtype, x)
        for array in given.values()
    ]


def all_stored(results: list[Array], given: dict[str, Array | None]) -> tuple[Array, ...]:
    """The results, where they were wanted."""
    return tuple(stored(result, array) for result, array in zip(results, given.values(), strict=True))
