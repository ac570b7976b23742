"""Where arrays are: in main memory, as NumPy's, or on a GPU, as CuPy's; and what functions do alike with both.

CuPy is never imported here: where nobody has imported it there are no arrays of it, and `"cupy" in modules`, which
functions ask before they look any closer, is all that arrays of NumPy's pay for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from sys import modules
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_NUMBERS = (bool, int, float, np.generic)


def on_device(value: Any) -> bool:
    """Is this an array of CuPy's?"""
    kind = getattr(modules.get("cupy"), "ndarray", None)
    return kind is not None and isinstance(value, kind)


def is_array(value: Any) -> TypeGuard[Array]:
    """Is this an array of NumPy's or of CuPy's?"""
    return isinstance(value, np.ndarray) or on_device(value)


def namespace(like: Any) -> Any:
    """The module that makes arrays where `like` is: numpy or cupy."""
    return modules["cupy"] if type(like) is not np.ndarray and on_device(like) else np


def empty(like: Any, shape: int | tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    """New memory where `like` is, its elements not set."""
    made: Array = np.empty(shape, dtype) if type(like) is np.ndarray else namespace(like).empty(shape, dtype)
    return made


def zeros(like: Any, shape: int | tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    """New zeros where `like` is."""
    made: Array = namespace(like).zeros(shape, dtype)
    return made


def beside(like: Any, values: Any, dtype: npt.DTypeLike | None = None, order: str | None = None) -> Array:
    """Values from main memory (or already there) as an array where `like` is."""
    made: Array = namespace(like).asarray(values, dtype, order=order)
    return made


def put(array: Array, values: Any) -> None:
    """Write values, from main memory or a device, over an array."""
    if not on_device(array):
        array[...] = host(values)
        return
    device: Any = array.device
    with device:
        array[...] = beside(array, values)


def host(value: Any, dtype: npt.DTypeLike | None = None) -> Array:
    """Values as an array in main memory: copied from a device, which waits for it, else as np.asarray takes them."""
    return np.asarray(value.get() if on_device(value) else value, dtype)


def is_plain(array: Array) -> bool:
    """Can a kernel write to this array as it is: contiguous, aligned, writeable?"""
    flags: Any = array.flags
    return bool(flags.carray if isinstance(array, np.ndarray) else flags.c_contiguous)


def together(title: str, **arrays: Any) -> None:
    """The array arguments of a call must be in one place: all NumPy's, or all CuPy's on the current device.

    Beside arrays on a device numbers and None may stand, but nothing that would be copied there unasked.
    """
    kind = getattr(modules.get("cupy"), "ndarray", None)
    if kind is None or kind not in set(map(type, arrays.values())):
        return
    current = modules["cupy"].cuda.runtime.getDevice()
    there = next(name for name, value in arrays.items() if isinstance(value, kind))
    for name, value in arrays.items():
        if isinstance(value, kind):
            number = value.device.id
            if number != current:
                raise ValueError(
                    f"{title}: {name} is on device {number}, and the current device is {current}; expected all arrays "
                    f"of a call on the current device: `with cupy.cuda.Device({number}):` around it, or cupy.asarray"
                )
        elif value is not None and not isinstance(value, _NUMBERS):
            what = "a NumPy array" if isinstance(value, np.ndarray) else f"of type {type(value).__name__}"
            raise TypeError(
                f"{title}: {name} is {what} and {there} is a CuPy array; expected all arrays of a call in one place: "
                f"cupy.asarray({name}), or cupy.asnumpy({there})"
            )


def host_only(title: str, **arrays: Any) -> None:
    """TypeError for an array on a device, where it would have to be copied to main memory unasked."""
    for name, value in arrays.items():
        if on_device(value):
            raise TypeError(f"{title}: {name} is a CuPy array; expected one in main memory: cupy.asnumpy({name})")


class _Addresses:
    """What NumPy makes an array of without looking at its elements."""

    def __init__(self, array: Any) -> None:
        self.__array_interface__ = {
            "version": 3,
            "data": (array.data.ptr, True),
            "shape": array.shape,
            "strides": array.strides,
            "typestr": f"|V{array.dtype.itemsize}",
        }


def addresses(array: Array) -> Array:
    """The array, or for one on a device an array over the same addresses: to be asked what it overlaps, never read."""
    return np.asarray(_Addresses(array)) if on_device(array) else array


def may_share(a: Array, b: Array) -> bool:
    """`np.may_share_memory` of arrays anywhere: do the ranges of their addresses overlap?"""
    if type(a) is np.ndarray and type(b) is np.ndarray:
        return np.may_share_memory(a, b)
    if not (on_device(a) and on_device(b)):
        return not (on_device(a) or on_device(b)) and np.may_share_memory(a, b)
    (first, end), (other, last) = _range(a), _range(b)
    return a.size > 0 and b.size > 0 and first < last and other < end


def _range(array: Any) -> tuple[int, int]:
    """The addresses of an array on a device: from the first byte to behind the last."""
    start = int(array.data.ptr)
    if array.flags.c_contiguous:
        return start, start + array.nbytes
    reach = [(length - 1) * step for length, step in zip(array.shape, array.strides, strict=True)]
    below, above = sum(min(step, 0) for step in reach), sum(max(step, 0) for step in reach)
    return start + below, start + above + array.dtype.itemsize


def place_of(arrays: Iterable[Any]) -> int | None:
    """The number of the device of the first of these arrays that is on one; None where none is."""
    return next((int(array.device.id) for array in arrays if on_device(array)), None)
