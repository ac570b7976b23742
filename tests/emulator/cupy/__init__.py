"""A stand-in for CuPy where there is no GPU: arrays over NumPy's memory, kernels on the emulator.

It has of CuPy's what fastnn uses, and is as strict: no array becomes NumPy's unasked, none of NumPy's is taken,
reductions give arrays of no dimensions. What copies to the host or waits for the device is entered into
`emulator.cupy.record`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from emulator.cupy import cuda as cuda
from emulator.cupy.array import ndarray as ndarray
from emulator.cupy.array import refuse, unwrap, wrap
from emulator.cupy.raw import RawKernel as RawKernel
from emulator.cupy.raw import RawModule as RawModule
from emulator.cupy.record import note

__version__ = "14.2.0"

# NumPy's functions of the same name and meaning, CuPy's having them all.
FUNCTIONS = (
    "abs absolute add all allclose amax amin any argmax argmin argsort array_equal atleast_1d atleast_2d bincount "
    "bitwise_and bitwise_not bitwise_or bitwise_xor broadcast_arrays broadcast_to ceil clip column_stack concatenate "
    "copysign cos count_nonzero cumprod cumsum diag diff divide dot einsum equal exp expand_dims expm1 eye flip "
    "floor floor_divide fmod greater greater_equal hypot interp invert isclose isfinite isinf isnan less less_equal "
    "linspace log log10 log1p log2 logaddexp logical_and logical_not logical_or logical_xor matmul max maximum mean "
    "median min minimum mod moveaxis multiply nan_to_num negative nonzero not_equal ones outer pad percentile power "
    "prod quantile ravel reciprocal remainder repeat reshape rint roll round searchsorted sign signbit sin sinh sort "
    "split sqrt square squeeze stack std subtract sum swapaxes take take_along_axis tan tanh tensordot tile trace "
    "transpose tril triu true_divide trunc unique var vstack hstack where"
)
ANSWERS = "broadcast_shapes can_cast dtype finfo iinfo issubdtype promote_types result_type ndim size"
TYPES = "bool_ float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 intp generic floating integer"
pi, e, inf, nan, newaxis = np.pi, np.e, np.inf, np.nan, None


def _function(name: str) -> Callable[..., Any]:
    function = getattr(np, name)

    def call(*args: Any, out: Any = None, **kwargs: Any) -> Any:
        refuse((*args, out, *kwargs.values()))
        keywords = {key: unwrap(value) for key, value in kwargs.items()}
        if out is not None:
            keywords["out"] = unwrap(out)
        with np.errstate(all="ignore"):
            result = function(*map(unwrap, args), **keywords)
        if isinstance(result, (bool, int, float)) and name != "ndim":
            result = np.asarray(result)
        origins = [each for arg in args for each in (arg if isinstance(arg, (list, tuple)) else [arg])]
        return out if out is not None else wrap(result, *origins)

    call.__name__ = call.__qualname__ = name
    return call


for _name in FUNCTIONS.split():
    globals()[_name] = _function(_name)
for _name in (*ANSWERS.split(), *TYPES.split()):
    globals()[_name] = getattr(np, _name)


def asarray(a: Any, dtype: Any = None, order: Any = None, *, blocking: bool = False) -> ndarray:
    """An array on the current device: as it is, if it is there; copied from the host."""
    if isinstance(a, ndarray):
        keep = a.owner.device == cuda.current_device() and (dtype is None or a.dtype == dtype)
        if keep and not (order == "C" and not a.flags.c_contiguous):
            return a
        values = a.values
    else:
        values = unwrap(a)
        if isinstance(a, np.ndarray):
            note("from_host", "asarray")
    with np.errstate(all="ignore"):
        return wrap(np.array(values, dtype, order=order or "K"))  # type: ignore[no-any-return]


def array(
    a: Any, dtype: Any = None, copy: bool = True, order: Any = "K", subok: bool = False, ndmin: int = 0
) -> ndarray:
    """A new array on the current device."""
    made = asarray(a, dtype, None if order == "K" else order)
    made = made.copy() if made is a and copy else made
    return made if made.ndim >= ndmin else made.reshape((1,) * (ndmin - made.ndim) + made.shape)


def asanyarray(a: Any, dtype: Any = None, order: Any = None) -> ndarray:
    """CuPy has no subclasses."""
    return asarray(a, dtype, order)


def ascontiguousarray(a: Any, dtype: Any = None) -> ndarray:
    """The array in C order, with at least one dimension as NumPy's function has it."""
    made = asarray(a, dtype)
    made = made if made.ndim else made.reshape(1)
    return made if made.flags.c_contiguous else made.copy()


def asnumpy(a: Any, stream: Any = None, order: str = "C", out: Any = None, *, blocking: bool = True) -> Any:
    """A copy on the host."""
    return a.get(order=order, out=out) if isinstance(a, ndarray) else np.asarray(a)


def empty(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    """New memory, in which kernels find NaN."""
    return ndarray(shape, dtype, order=order)


def zeros(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    """New zeros."""
    return full(shape, 0, dtype, order)


def full(shape: Any, fill_value: Any, dtype: Any = None, order: str = "C") -> ndarray:
    """New memory with one value throughout."""
    made = ndarray(shape, np.asarray(unwrap(fill_value)).dtype if dtype is None else dtype, order=order)
    made.fill(fill_value)
    return made


def arange(*args: Any, dtype: Any = None) -> ndarray:
    """As NumPy's."""
    return wrap(np.arange(*map(unwrap, args), dtype=dtype))  # type: ignore[no-any-return]


def _like(a: ndarray, dtype: Any, order: str, shape: Any) -> ndarray:
    pattern = np.empty_like(a.values, dtype, order, shape=shape)  # for its strides; never touched
    made = ndarray(pattern.shape, pattern.dtype)
    made.values = np.lib.stride_tricks.as_strided(made.values, pattern.shape, pattern.strides)
    return made


def empty_like(a: Any, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None) -> ndarray:
    """New memory in the layout of another array."""
    return _like(a, dtype, order, shape)


def zeros_like(a: Any, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None) -> ndarray:
    """Zeros in the layout of another array."""
    return full_like(a, 0, dtype, order, subok, shape)


def ones_like(a: Any, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None) -> ndarray:
    """Ones in the layout of another array."""
    return full_like(a, 1, dtype, order, subok, shape)


def full_like(
    a: Any, fill_value: Any, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None
) -> ndarray:
    """One value in the layout of another array."""
    made = _like(a, dtype, order, shape)
    made.fill(fill_value)
    return made


def copyto(dst: ndarray, src: Any, casting: Any = "same_kind", where: Any = None) -> None:
    """As NumPy's."""
    refuse([src])
    np.copyto(unwrap(dst), unwrap(src), casting=casting, where=True if where is None else unwrap(where))


def copy(a: Any, order: str = "K") -> ndarray:
    """A copy."""
    return asarray(a).copy()


def may_share_memory(a: Any, b: Any, max_work: Any = None) -> bool:
    """Do the arrays' bounds overlap? Known without reading them."""
    return isinstance(a, ndarray) and isinstance(b, ndarray) and bool(np.may_share_memory(a.values, b.values))


def shares_memory(a: Any, b: Any, max_work: Any = None) -> bool:
    """Do the arrays overlap?"""
    return isinstance(a, ndarray) and isinstance(b, ndarray) and bool(np.shares_memory(a.values, b.values))


def shape(a: Any) -> tuple[int, ...]:
    """As NumPy's."""
    return a.shape if isinstance(a, ndarray) else np.shape(a)


def isscalar(element: Any) -> bool:
    """As NumPy's."""
    return np.isscalar(element)


def get_array_module(*args: Any) -> Any:
    """`cupy` if there is an array of CuPy's among them, else `numpy`."""
    import sys

    return sys.modules[__name__] if any(isinstance(arg, ndarray) for arg in args) else np


def is_available() -> bool:
    """Is there a device?"""
    return cuda.is_available()
