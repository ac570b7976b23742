"""Checks and conversions of what callers pass in. Every error names the function, the argument, what came and what was expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.kernels.cpu import activations as native
from fastnn.op import Op, Param

Array = npt.NDArray[Any]
EXPECTED = "float16, bfloat16, float32, float64, an integer or bool"
_FLOATS = frozenset(map(np.dtype, ("float16", "float32", "float64")))


class Binding:
    """The argument list of a public function: arrays, then parameters, then the keyword `out`."""

    def __init__(self, title: str, arrays: tuple[str, ...], params: tuple[Param, ...]) -> None:
        self.title = title
        self.names = (*arrays, *(param.name for param in params))
        self.defaults = {param.name: param.default for param in params if param.default is not None}
        self.arrays = len(arrays)

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[list[Any], list[Any], Any]:
        """The arrays, the parameters and `out`; TypeError as for a Python function."""
        if len(args) > len(self.names):
            expected = f"{len(self.names)} positional argument{'s' * (len(self.names) != 1)} ({', '.join(self.names)})"
            hint = "; out is a keyword" if len(args) == len(self.names) + 1 else ""
            raise TypeError(f"{self.title}() takes {expected} but {len(args)} were given{hint}")
        values = dict(zip(self.names, args, strict=False))
        out = None
        for name, value in kwargs.items():
            if name == "out":
                out = value
            elif name not in self.names:
                known = ", ".join((*self.names, "out"))
                raise TypeError(f"{self.title}() got an unexpected keyword argument {name!r}; expected {known}")
            elif name in values:
                raise TypeError(f"{self.title}() got multiple values for argument {name!r}")
            else:
                values[name] = value
        missing = [name for name in self.names if name not in values and name not in self.defaults]
        if missing:
            raise TypeError(f"{self.title}() missing required argument: {', '.join(map(repr, missing))}")
        found = [values.get(name, self.defaults.get(name)) for name in self.names]
        return found[: self.arrays], found[self.arrays :], out


def is_foreign(value: Any) -> bool:
    """Is this an array of another library that handles ufuncs itself (Dask, pandas, xarray, CuPy)?"""
    return hasattr(value, "__array_ufunc__") and not isinstance(value, (np.ndarray, np.generic))


def real_array(title: str, name: str, value: Any) -> Array:
    """`value` as an array of one of the four float dtypes: integers and bools promoted as np.tanh promotes them."""
    array = _array(title, name, value)
    return array.astype(_float_dtype(title, name, array.dtype), copy=False)


def common_array(title: str, names: Sequence[str], values: Sequence[Any]) -> list[Array]:
    """Arrays of one float dtype, the common one by NumPy's promotion."""
    arrays = [_array(title, name, value) for name, value in zip(names, values, strict=True)]
    dtypes = [_float_dtype(title, name, array.dtype) for name, array in zip(names, arrays, strict=True)]
    dtype = dtypes[0] if len(set(dtypes)) == 1 else np.result_type(*dtypes)
    _float_dtype(title, " and ".join(names), dtype)
    return [array.astype(dtype, copy=False) for array in arrays]


def _array(title: str, name: str, value: Any) -> Array:
    try:
        array = np.asanyarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{title}: {name} cannot be made an array: {error}") from None
    if not array.dtype.isnative:
        raise TypeError(
            f"{title}: {name} has non-native byte order ({array.dtype.str}); "
            f"convert it with {name}.astype({name}.dtype.newbyteorder('='))"
        )
    return array


def _float_dtype(title: str, name: str, dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype in _FLOATS:
        return dtype
    if dtype.name == "bfloat16" and dtype.itemsize == 2:
        native.use_bfloat16(dtype.num)
        return dtype
    if dtype.kind in "biu":
        return np.dtype(np.float16 if dtype.itemsize == 1 else np.float32 if dtype.itemsize == 2 else np.float64)
    raise TypeError(f"{title}: {name} has dtype {dtype}; expected {EXPECTED}")


def same_shapes(title: str, dy: Array, saved: Array) -> Array:
    """`dy` in saved's shape; one number serves every element."""
    if dy.shape == saved.shape:
        return dy
    if dy.ndim == 0:
        return np.broadcast_to(dy, saved.shape)
    raise ValueError(f"{title}: dy has shape {dy.shape} and saved {saved.shape}; expected the same shape")


def parameter_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of parameters beside an array of `dtype`: the one that is computed in."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def checked_parameters(
    op: Op, dtype: np.dtype[Any], shape: tuple[int, ...], params: Sequence[Any], title: str | None = None
) -> list[Array]:
    """The parameters as arrays of the dtype that is computed in, numbers within their range."""
    title = title or op.name
    values = [_parameter(title, param, value, parameter_dtype(dtype)) for param, value in zip(op.params, params, strict=True)]
    for param, value in zip(op.params, values, strict=True):
        if not param.learned:
            _check_broadcast(title, param.name, value.shape, shape)
    if op.rising and not np.all(values[0] <= values[1]):
        first, second = op.params[0].name, op.params[1].name
        raise ValueError(f"{title}: {first} must not be above {second}, got {values[0]} and {values[1]}")
    return values


def _parameter(title: str, param: Param, value: Any, dtype: np.dtype[Any]) -> Array:
    expected = f"expected a real number or an array of real numbers, {param.range}"
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        raise TypeError(f"{title}: {param.name} cannot be made an array; {expected}") from None
    if array.dtype.kind not in "fiu" and array.dtype.name != "bfloat16":
        raise TypeError(f"{title}: {param.name} is {value!r} of dtype {array.dtype}; {expected}")
    with np.errstate(all="ignore"):
        array = array.astype(dtype)
    if array.ndim == 0 and not param.accepts(float(array)):
        raise ValueError(f"{title}: {param.name} must be {param.range} in {dtype}, got {value!r}")
    return array


def _check_broadcast(title: str, name: str, shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    try:
        fits = np.broadcast_shapes(shape, wanted) == wanted
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"{title}: {name} has shape {shape}, which does not broadcast to the shape {wanted} of the input")


def check_out(title: str, out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], inputs: Sequence[Array]) -> None:
    """`out` must be able to take the result as it is; it may be one of the inputs, but not overlap one otherwise."""
    if out is None:
        return
    if not isinstance(out, np.ndarray):
        raise TypeError(f"{title}: out must be a numpy.ndarray, got {type(out).__name__}")
    if out.dtype != dtype or not out.dtype.isnative:
        raise TypeError(f"{title}: out has dtype {out.dtype.str if not out.dtype.isnative else out.dtype}; expected {dtype}")
    if out.shape != shape:
        raise ValueError(f"{title}: out has shape {out.shape}; expected {shape}")
    if not out.flags.writeable:
        raise ValueError(f"{title}: out is read-only")
    for array in inputs:
        same = array.ctypes.data == out.ctypes.data and array.strides == out.strides and array.shape == out.shape
        if not same and _overlap(array, out):
            raise ValueError(f"{title}: out overlaps an input in memory; it may be the input itself, or apart from it")


def _overlap(a: Array, b: Array) -> bool:
    try:
        return np.shares_memory(a, b, max_work=10_000)
    except np.exceptions.TooHardError:
        return True
