"""Arrays of other libraries that take NumPy's ufuncs into their own hands: Dask, pandas, xarray.

They get the ufunc, apply it block by block or column by column, and wrap the result in their own type.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.arguments import EXPECTED, checked_parameters, float_dtype
from fastnn.broadcast import align_parameter, reduce_to
from fastnn.op import Op

Array = npt.NDArray[Any]


def is_foreign(value: Any) -> bool:
    """Is this an array of another library that handles ufuncs itself?"""
    return getattr(value, "__array_ufunc__", None) is not None and not isinstance(value, (np.ndarray, np.generic))


def check(title: str, backend: str, **arrays: Any) -> None:
    """Refuse what no ufunc of fastnn can take, before the other library gets it."""
    importlib.import_module("fastnn.ufuncs")  # where ufuncs are found again when a graph that holds them is unpickled
    for name, value in arrays.items():
        if not is_foreign(value):
            continue
        kind = f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}"
        if backend != "native":
            raise TypeError(
                f"{title}: {name} is of type {kind}, which only the backend 'native' takes; "
                f"the backend in force is {backend!r}"
            )
        dtype = _dtype(value)
        if dtype is not None and float_dtype(dtype) is None:
            raise TypeError(f"{title}: {name} is of type {kind} and dtype {dtype}; expected {EXPECTED}")


def check_shapes(title: str, dy: Any, saved: Any) -> None:
    """dy must have saved's shape or be one number. xarray is left to match dimensions by their names."""
    shapes = [None if hasattr(type(value), "dims") else np.shape(value) for value in (dy, saved)]
    if None not in shapes and shapes[0] not in ((), shapes[1]):
        raise ValueError(f"{title}: dy has shape {shapes[0]} and saved has shape {shapes[1]}; expected the same shape")


def parameters(op: Op, title: str, array: Any, params: Sequence[Any]) -> tuple[list[Any], tuple[int, ...]]:
    """The parameters as ufunc inputs beside `array`, and the shape in which the learned one was given.

    Their dtype is the one that does not widen the array's; where that has none, they are Python floats.
    """
    known = _dtype(array)
    dtype = (None if known is None else float_dtype(known)) or np.dtype(np.float64)
    shape = () if hasattr(type(array), "data_vars") else np.shape(array)  # an xarray.Dataset has no one shape
    values: list[Any] = list(checked_parameters(op, dtype, shape, params, title))
    given = () if op.learned is None else values[op.learned].shape
    if op.learned is not None:
        values[op.learned] = align_parameter(shape, values[op.learned])
    return [value if value.ndim else value.item() if known is None else value[()] for value in values], given


def parameter_gradient(terms: Any, dy: Any, saved: Any, values: Sequence[Any], shape: tuple[int, ...]) -> Any:
    """The gradient of the learned parameter in `shape`: lazy where the arrays are, else an array of NumPy's."""
    gradient = terms(dy, saved, *values)
    if hasattr(type(gradient), "dims") and hasattr(type(gradient), "data"):
        gradient = gradient.data  # xarray's own container
    if not hasattr(gradient, "__dask_graph__"):
        gradient = np.asarray(gradient)
    return reduce_to(gradient, shape)


def _dtype(value: Any) -> np.dtype[Any] | None:
    """The dtype of all elements, that of NumPy behind pandas' own; None where there is no such thing."""
    kind = type(value)  # a DataFrame's columns may be named dtype or dims
    if hasattr(kind, "dtype"):
        found = [value.dtype]
    elif hasattr(kind, "dtypes"):
        found = list(value.dtypes.values() if isinstance(value.dtypes, Mapping) else value.dtypes)
    else:
        found = []
    try:
        dtypes = [np.dtype(getattr(each, "numpy_dtype", each)) for each in found]
        return np.result_type(*dtypes) if dtypes else None
    except TypeError:
        return None
