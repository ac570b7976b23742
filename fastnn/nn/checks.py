"""What layers say of an input that does not fit: the layer, what came, what was expected."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from fastnn.arguments import float_dtype, whole_number
from fastnn.arrays import is_array, on_device

Array = npt.NDArray[Any]
_PLAIN = frozenset(map(np.dtype, ("float32", "float64")))


def float_dtype_of(title: str, dtype: npt.DTypeLike) -> np.dtype[Any]:
    """The dtype of a layer's parameters, which must be a floating-point one that functions compute on."""
    kind = np.dtype(dtype)
    if kind.kind in "biu" or float_dtype(kind) is None:
        raise TypeError(f"{title}: dtype is {kind}; expected float32, float64, float16 or bfloat16")
    return kind


def floating(title: str, x: Any) -> Array:
    """x, which must be an array of a floating-point dtype."""
    if not is_array(x):
        raise TypeError(f"{title}: x is of type {type(x).__name__}; expected a NumPy array")
    if x.dtype.kind in "biu" or float_dtype(x.dtype) is None:
        raise TypeError(
            f"{title}: x has dtype {x.dtype}; expected float32, float64, float16 or bfloat16: x.astype(np.float32)"
        )
    return x


def matches(x: Any, weight: Array) -> bool:
    """Is x an array of the layer's dtype, on which kernels compute, and where its weights are?"""
    if type(x) is not type(weight) and not (isinstance(x, np.ndarray) and isinstance(weight, np.ndarray)):
        return False
    return bool(x.dtype == weight.dtype and (x.dtype in _PLAIN or float_dtype(x.dtype) is not None))


def refuse(title: str, x: Any, weight: Array, expected: str) -> NoReturn:
    """Say why x is no input of a layer with this weight that expects this shape."""
    x, dtype = floating(title, x), weight.dtype
    if on_device(weight) and not on_device(x):
        raise TypeError(
            f"{title}: x is a NumPy array and the layer's parameters are on a device; expected cupy.asarray(x), "
            'or layer.to("cpu")'
        )
    if on_device(x) and not on_device(weight):
        raise TypeError(
            f"{title}: x is a CuPy array and the layer's parameters are in main memory; expected cupy.asnumpy(x), "
            'or layer.to("cuda")'
        )
    if x.dtype != dtype:
        raise TypeError(
            f"{title}: x has dtype {x.dtype}; expected {dtype}, as the layer's parameters have: "
            f"x.astype({dtype.name!r}), or layer.to({x.dtype.name!r})"
        )
    raise ValueError(f"{title}: x has shape {x.shape}; expected {expected}")


def check_gradient(title: str, dy: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """dy must be like the result of the last forward pass."""
    if type(dy) is np.ndarray and dy.shape == shape and dy.dtype == dtype:
        return
    if not is_array(dy):
        raise TypeError(f"{title}.backward: dy is of type {type(dy).__name__}; expected a NumPy array")
    if dy.dtype != dtype:
        raise TypeError(f"{title}.backward: dy has dtype {dy.dtype}; expected {dtype}")
    if dy.shape != shape:
        raise ValueError(f"{title}.backward: dy has shape {dy.shape}; expected {shape}, as the last result has")


def count(title: str, name: str, value: Any, least: int = 1) -> int:
    """A whole number of features, channels or the like."""
    number = whole_number(title, name, value)
    if number < least:
        raise ValueError(f"{title}: {name} is {number}; expected at least {least}")
    return number
