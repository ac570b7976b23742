"""The stand-in's ndarray: NumPy's arithmetic on memory of its own, which never becomes NumPy's array unasked."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from emulator.cupy import cuda
from emulator.cupy.memory import Allocation
from emulator.cupy.record import note

Shape = int | tuple[int, ...]


class MemoryPointer:
    """`cupy.cuda.MemoryPointer`."""

    def __init__(self, ptr: int, device: int, size: int) -> None:
        self.ptr, self.device_id, self.size = ptr, device, size

    @property
    def device(self) -> cuda.Device:
        return cuda.Device(self.device_id)


class ndarray:
    """`cupy.ndarray`."""

    __array_priority__ = 100

    def __init__(self, shape: Shape, dtype: Any = float, memptr: None = None, strides: None = None, order: str = "C"):
        shape = (shape,) if isinstance(shape, int) else tuple(int(length) for length in shape)
        dtype = np.dtype(dtype)
        if dtype.hasobject or dtype.names:
            raise ValueError(f"Unsupported dtype {dtype}")
        size = int(np.prod(shape, dtype=object)) * dtype.itemsize
        self.owner = Allocation(size, cuda.current_device())
        self.values = self.owner.array(shape, dtype, order)
        self.base: ndarray | None = None

    @classmethod
    def over(cls, values: Any, origin: ndarray) -> ndarray:
        """A view of memory that `origin` has part in."""
        made = object.__new__(cls)
        made.values, made.owner = values, origin.owner
        made.base = origin if origin.base is None else origin.base
        return made

    # ---- what it is ----

    dtype = property(lambda self: self.values.dtype)
    ndim = property(lambda self: self.values.ndim)
    size = property(lambda self: self.values.size)
    nbytes = property(lambda self: self.values.nbytes)
    itemsize = property(lambda self: self.values.itemsize)
    strides = property(lambda self: self.values.strides)
    T = property(lambda self: wrap(self.values.T, self))
    real = property(lambda self: self)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @shape.setter
    def shape(self, shape: Shape) -> None:
        self.values.shape = shape

    @property
    def flags(self) -> Flags:
        return Flags(self)

    @property
    def device(self) -> cuda.Device:
        return cuda.Device(self.owner.device)

    @property
    def data(self) -> MemoryPointer:
        return MemoryPointer(self.values.ctypes.data, self.owner.device, self.owner.size)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        strides = None if self.flags.c_contiguous else self.strides
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "descr": self.dtype.descr,
            "data": (self.data.ptr, False),
            "strides": strides,
            "stream": 1,
            "version": 3,
        }

    # ---- to and from the host ----

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    def get(self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True) -> Any:
        self._read("get")
        if out is None:
            return self.values.copy(order=order)
        out[...] = self.values
        return out

    def set(self, arr: Any, stream: Any = None) -> None:
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if arr.dtype != self.dtype or arr.shape != self.shape:
            raise ValueError(f"set: {arr.dtype}{arr.shape} into {self.dtype}{self.shape}")
        note("from_host", "set")
        self.values[...] = arr

    def _read(self, how: str) -> None:
        note("to_host", how)

    def item(self, *args: int) -> Any:
        self._read("item")
        return self.values.item(*args)

    def tolist(self) -> Any:
        self._read("tolist")
        return self.values.tolist()

    def tobytes(self, order: str = "C") -> bytes:
        self._read("tobytes")
        return self.values.tobytes(order)

    def __bool__(self) -> bool:
        self._read("bool")
        return bool(self.values)

    def __int__(self) -> int:
        self._read("int")
        return int(self.values)

    def __float__(self) -> float:
        self._read("float")
        return float(self.values)

    def __index__(self) -> int:
        self._read("index")
        return operator.index(self.values)

    def __repr__(self) -> str:
        self._read("repr")
        return repr(self.values)

    def __str__(self) -> str:
        self._read("repr")
        return str(self.values)

    def __format__(self, spec: str) -> str:
        self._read("repr")
        return format(self.values, spec)

    # ---- parts ----

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[ndarray]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> ndarray:
        for part in index if isinstance(index, tuple) else (index,):
            if getattr(part, "dtype", None) == np.dtype(bool):
                note("waits", "the number of elements a mask selects")
        found = self.values[unwrap(_index(index))]
        if isinstance(found, np.generic):  # an array of no dimensions, and a view
            index = index if isinstance(index, tuple) else (index,)
            found = self.values[(*unwrap(_index(index)), ...)]
        return wrap(found, self)

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(value, np.ndarray) and value.ndim:
            raise TypeError("Unsupported type <class 'numpy.ndarray'>")
        self.values[unwrap(_index(index))] = unwrap(value)

    # ---- arithmetic ----

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        import emulator.cupy as module

        own = getattr(module, ufunc.__name__, None)
        if method != "__call__" or own is None:
            return NotImplemented
        if kwargs.get("out") is not None:
            (kwargs["out"],) = kwargs["out"]
        return own(*inputs, **kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        import emulator.cupy as module

        own = getattr(module, function.__name__, None)
        return NotImplemented if own is None else own(*args, **kwargs)

    def astype(
        self, dtype: Any, order: str = "K", casting: Any = None, subok: Any = None, copy: bool = True
    ) -> ndarray:
        if not copy and self.dtype == dtype:
            return self
        with np.errstate(all="ignore"):
            return wrap(self.values.astype(dtype, order))

    def copy(self, order: str = "C") -> ndarray:
        return wrap(self.values.copy(order))

    def fill(self, value: Any) -> None:
        self.values.fill(unwrap(value))

    def __copy__(self) -> ndarray:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> ndarray:
        with self.device:
            return self.copy()

    def __reduce__(self) -> Any:
        import emulator.cupy as module

        return module.array, (self.get(),)

    __hash__ = None  # type: ignore[assignment]


class Flags:
    """`cupy.ndarray.flags`."""

    def __init__(self, array: ndarray) -> None:
        flags = array.values.flags
        self.c_contiguous, self.f_contiguous = bool(flags.c_contiguous), bool(flags.f_contiguous)
        self.owndata = array.base is None
        self.forc, self.fnc = self.c_contiguous or self.f_contiguous, self.f_contiguous and not self.c_contiguous

    def __getitem__(self, name: str) -> bool:
        return bool(getattr(self, name.lower()))


def _index(index: Any) -> Any:
    """CuPy takes lists and NumPy's arrays of numbers as indices, too, after a copy to the device."""
    if isinstance(index, np.ndarray) and index.ndim:
        note("from_host", "index")
    return tuple(map(_index, index)) if isinstance(index, tuple) else index


def unwrap(value: Any) -> Any:
    """NumPy's array behind the stand-in's, also within lists; an array of NumPy's own is refused."""
    if isinstance(value, ndarray):
        if value.owner.device != cuda.current_device():
            raise ValueError(
                f"Array device must be same as the current device: array device = {value.owner.device} while current "
                f"= {cuda.current_device()}"
            )
        return value.values
    if isinstance(value, (list, tuple)) and any(isinstance(each, (ndarray, list, tuple)) for each in value):
        return type(value)(map(unwrap, value))
    return value


def wrap(result: Any, *origins: Any) -> Any:
    """NumPy's result as the stand-in's: a view where it shares the memory of an origin, else on the current device."""
    if isinstance(result, (tuple, list)):
        return type(result)(wrap(each, *origins) for each in result)
    if not isinstance(result, (np.ndarray, np.generic)):
        return result
    values = np.asarray(result)
    for origin in origins:
        if isinstance(origin, ndarray) and values.size and np.may_share_memory(values, origin.values):
            return ndarray.over(values, origin)
    order = "F" if values.flags.f_contiguous and not values.flags.c_contiguous else "C"
    made = ndarray(values.shape, values.dtype, order=order)
    made.values[...] = values
    return made


def refuse(values: Any) -> None:
    """CuPy's functions take arrays of CuPy's and numbers."""
    for value in values:
        if isinstance(value, np.ndarray):
            raise TypeError(f"Unsupported type {type(value)}")


def _operator(name: str) -> Callable[..., Any]:
    function = getattr(np.ndarray, name)
    inplace = name.startswith("__i") and name != "__invert__"

    def method(self: ndarray, *others: Any) -> Any:
        for other in others:
            if (
                isinstance(other, np.ndarray)
                or hasattr(other, "__array_ufunc__")
                and not isinstance(other, ndarray | np.generic)
            ):
                refuse([other])
                return NotImplemented
        with np.errstate(all="ignore"):
            result = function(unwrap(self), *map(unwrap, others))
        return result if result is NotImplemented else self if inplace else wrap(result)

    method.__name__ = name
    return method


def _method(name: str) -> Callable[..., Any]:
    function = getattr(np.ndarray, name)

    def method(self: ndarray, *args: Any, **kwargs: Any) -> Any:
        out = kwargs.get("out")
        with np.errstate(all="ignore"):
            result = function(unwrap(self), *map(unwrap, args), **{key: unwrap(each) for key, each in kwargs.items()})
        return out if out is not None else wrap(result, self)

    method.__name__ = name
    return method


BINARY = "add sub mul truediv floordiv mod pow matmul and or xor lshift rshift"
OTHERS = "neg pos abs invert lt le gt ge eq ne"
METHODS = (
    "all any argmax argmin argsort choose clip cumprod cumsum diagonal dot flatten max mean min nonzero prod put ravel "
    "repeat reshape round searchsorted sort squeeze std sum swapaxes take trace transpose var view"
)
for _name in (*(form + name for name in BINARY.split() for form in ("", "r", "i")), *OTHERS.split()):
    setattr(ndarray, f"__{_name}__", _operator(f"__{_name}__"))
for _name in METHODS.split():
    setattr(ndarray, _name, _method(_name))
ndarray.__module__ = "cupy"
