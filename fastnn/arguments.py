"""Checks and conversions of what callers pass in.

Every error names the function, the argument, what came and what was expected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.arrays import addresses, beside, empty, is_array, may_share, namespace, on_device
from fastnn.broadcast import aligned_shape
from fastnn.kernels.cpu import activations as native
from fastnn.op import Op, Param
from fastnn.options import checked_axis as checked_axis
from fastnn.options import checked_word as checked_word
from fastnn.options import flag as flag
from fastnn.options import kind, short
from fastnn.options import real_number as real_number
from fastnn.options import whole_number as whole_number

Array = npt.NDArray[Any]
EXPECTED = "float16, bfloat16, float32, float64, an integer or bool"
_FLOATS = frozenset(map(np.dtype, ("float16", "float32", "float64")))
_SINGLE, _DOUBLE = np.dtype(np.float32), np.dtype(np.float64)


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


def real_array(title: str, name: str, value: Any) -> Array:
    """`value` as an array of one of the four float dtypes: integers and bools promoted as np.tanh promotes them."""
    if type(value) is np.ndarray and (value.dtype is _SINGLE or value.dtype is _DOUBLE):
        return value
    array = _array(title, name, value)
    return array.astype(_checked_dtype(title, name, array.dtype), copy=False)


def common_array(title: str, names: Sequence[str], values: Sequence[Any]) -> list[Array]:
    """Arrays of one float dtype, the common one by NumPy's promotion; a Python number takes that of the others."""
    if all([type(value) is np.ndarray and value.dtype is _SINGLE for value in values]):
        return list(values)
    arrays = [_array(title, name, value) for name, value in zip(names, values, strict=True)]
    dtypes = [_checked_dtype(title, name, array.dtype) for name, array in zip(names, arrays, strict=True)]
    strong = [dtype for dtype, value in zip(dtypes, values, strict=True) if type(value) not in (int, float, bool)]
    try:
        dtype = np.result_type(*(strong or dtypes))
    except TypeError:  # float16 and bfloat16
        described = " and ".join(f"{name} has dtype {dtype}" for name, dtype in zip(names, dtypes, strict=True))
        raise TypeError(f"{title}: {described}, which have no common dtype; convert one of them") from None
    with np.errstate(over="ignore"):  # a Python number may be beyond the dtype's range: infinity, as anywhere else
        return [array.astype(dtype, copy=False) for array in arrays]


def _array(title: str, name: str, value: Any) -> Array:
    if on_device(value):
        return value  # type: ignore[no-any-return]
    try:
        array: Array = np.asanyarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # the last for PyTorch's tensors that require a gradient
        raise TypeError(f"{title}: {name} is {kind(value)} that NumPy makes no array of: {error}") from None
    if array.dtype == object and not isinstance(value, np.ndarray):
        raise TypeError(
            f"{title}: {name} is {kind(value)}, of which NumPy makes an array of dtype object; "
            f"expected an array, or nested lists, of {EXPECTED}"
        )
    if not array.dtype.isnative:
        raise TypeError(
            f"{title}: {name} has non-native byte order ({array.dtype.str}); "
            f"convert it with {name}.astype({name}.dtype.newbyteorder('='))"
        )
    return array


def float_dtype(dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    """The dtype in which elements of `dtype` are computed; None where they are not."""
    if dtype in _FLOATS:
        return dtype
    if dtype.name == "bfloat16" and dtype.itemsize == 2:
        native.use_bfloat16(dtype.num)
        return dtype
    if dtype.kind in "biu":
        return np.dtype(np.float16 if dtype.itemsize == 1 else np.float32 if dtype.itemsize == 2 else np.float64)
    return None


def _checked_dtype(title: str, name: str, dtype: np.dtype[Any]) -> np.dtype[Any]:
    found = float_dtype(dtype)
    if found is None:
        raise TypeError(f"{title}: {name} has dtype {dtype}; expected {EXPECTED}")
    return found


def same_shapes(title: str, dy: Array, saved: Array) -> Array:
    """`dy` in saved's shape; one number serves every element."""
    if dy.shape == saved.shape:
        return dy
    if dy.ndim == 0:
        return namespace(dy).broadcast_to(dy, saved.shape)  # type: ignore[no-any-return]
    raise ValueError(f"{title}: dy has shape {dy.shape} and saved has shape {saved.shape}; expected the same shape")


def parameter_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of parameters beside an array of `dtype`: the one that is computed in."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def checked_parameters(
    op: Op, dtype: np.dtype[Any], shape: tuple[int, ...], params: Sequence[Any], title: str | None = None
) -> list[Array]:
    """The parameters as arrays of the dtype that is computed in: within their range, of shapes that fit, copied.

    Arrays of a learned parameter are taken as they are: NaN in a network that has diverged is for the network to show.
    """
    title = title or op.name
    values = [
        _parameter(title, param, value, parameter_dtype(dtype)) for param, value in zip(op.params, params, strict=True)
    ]
    for param, value in zip(op.params, values, strict=True):
        if param.learned:
            try:
                aligned_shape(shape, value.shape)
            except ValueError as error:
                raise ValueError(f"{title}: {error}") from None
        else:
            _check_broadcast(title, param.name, value.shape, shape)
    if op.rising and not any(map(on_device, values)) and not np.all(values[0] <= values[1]):
        first, second = op.params[0].name, op.params[1].name
        raise ValueError(
            f"{title}: {first} must not be above {second}; "
            f"got {first}={short(params[0])} and {second}={short(params[1])}"
        )
    return values


def _parameter(title: str, param: Param, value: Any, dtype: np.dtype[Any]) -> Array:
    expected = "expected a real number or an array of real numbers"
    try:
        array = value if on_device(value) else np.asarray(value)
        if array.dtype == object and array.ndim == 0 and hasattr(value, "__float__"):
            array = np.asarray(float(value))  # a large int, a Fraction, a Decimal
    except (TypeError, ValueError):
        raise TypeError(f"{title}: {param.name} is {kind(value)} that NumPy makes no array of; {expected}") from None
    except OverflowError:
        array = np.asarray(np.inf)
    if array.dtype.kind not in "fiu" and array.dtype.name != "bfloat16":
        given = f" of dtype {array.dtype}" if is_array(value) else f", {kind(value)}" if value is not None else ""
        raise TypeError(f"{title}: {param.name} is {short(value)}{given}; {expected}")
    with np.errstate(all="ignore"):
        array = array.astype(dtype)
    if (array.ndim and param.learned) or on_device(array):  # whose numbers are not read back
        return array
    if array.ndim == 0 and param.accepts(float(array)):
        return array
    wrong = ~_accepted(param, array)
    if wrong.any():
        which = short(value) if array.ndim == 0 else f"an array with {float(array[wrong][0]):g} in it"
        wanted = param.range.replace("any finite number", "finite").replace(", ", " and ")
        raise ValueError(f"{title}: {param.name} is {which}; expected a number that is {wanted} in {dtype}")
    return array


def _accepted(param: Param, array: Array) -> npt.NDArray[np.bool_]:
    """Which values are finite and in range?"""
    accepted = np.isfinite(array) & (array >= param.low) & (array <= param.high)
    for value in param.excluded:
        accepted &= array != value
    return np.asarray(accepted)


def _check_broadcast(title: str, name: str, shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    try:
        fits = np.broadcast_shapes(shape, wanted) == wanted
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"{title}: {name} has shape {shape}; "
            f"expected one number, or a shape that broadcasts to the input's, {wanted}"
        )


def check_out(title: str, out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], inputs: Mapping[str, Array]) -> None:
    """`out` must be able to take the result as it is; it may be one of the inputs, but not overlap one otherwise."""
    if out is None:
        return
    if not is_array(out):
        raise TypeError(f"{title}: out is {kind(out)}; expected a numpy.ndarray of shape {shape} and dtype {dtype}")
    if out.dtype != dtype or not out.dtype.isnative:
        found = out.dtype if out.dtype.isnative else f"{out.dtype.str} (non-native byte order)"
        raise TypeError(f"{title}: out has dtype {found}; expected {dtype}")
    if out.shape != shape:
        raise ValueError(f"{title}: out has shape {out.shape}; expected {shape}")
    if isinstance(out, np.ndarray) and not out.flags.writeable:
        raise ValueError(f"{title}: out is read-only; expected a writeable array")
    if out.size and not out.flags.c_contiguous and 0 in _steps(out):
        raise ValueError(
            f"{title}: out has strides {out.strides}, so that its elements share memory; expected one place for each"
        )
    for name, array in inputs.items():
        if array is out or not may_share(array, out):
            continue
        same = address(array) == address(out) and _steps(array) == _steps(out) and array.shape == out.shape
        if not same and overlap(array, out):
            raise ValueError(f"{title}: out overlaps {name} in memory; expected {name} itself, or memory apart from it")


def takes(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], *inputs: Array) -> bool:
    """Can kernels write the result to `out` as it is, apart from all inputs? Then it needs no other check."""
    if type(out) is not np.ndarray or out.dtype is not dtype or out.shape != shape or not out.flags.carray:
        return False
    return not any([np.may_share_memory(out, array) for array in inputs])


def check_apart(title: str, out: Array | None, inputs: Mapping[str, Array | None]) -> None:
    """`out` must not share memory with an input: for results that are not made element by element."""
    for name, array in inputs.items():
        if out is not None and array is not None and overlap(array, out):
            raise ValueError(f"{title}: out overlaps {name} in memory; expected memory apart from it")


def check_written(title: str, written: Mapping[str, Array | None], inputs: Mapping[str, Array | None]) -> None:
    """What is written must not overlap anything else, where inputs are read after the first result is written."""
    others = dict(inputs)
    for name, array in written.items():
        if array is None:
            continue
        for other, value in others.items():
            if value is not None and overlap(array, value):
                raise ValueError(f"{title}: {name} overlaps {other} in memory; expected memory apart from it")
        others[name] = array


def plain(array: Array) -> Array:
    """The array as kernels take it: C-contiguous, aligned, of no subclass; copied only where it is not so."""
    if type(array) is not np.ndarray and on_device(array):
        return array if array.flags.c_contiguous else beside(array, array, order="C")
    if array.flags.c_contiguous and array.flags.aligned:
        return np.asarray(array)
    return np.array(array, order="C", subok=False)


def bare(array: Array) -> Array:
    """The array without its subclass, which may have ideas of its own."""
    return array if type(array) is np.ndarray or on_device(array) else np.asarray(array)


def receiver(out: Array | None, shape: tuple[int, ...], dtype: np.dtype[Any], like: Array) -> Array:
    """Where a kernel may write a result that is to go to the checked `out`: there, if plain, else beside `like`."""
    if type(like) is not np.ndarray and on_device(like):
        return out if out is not None and out.flags.c_contiguous else empty(like, shape, dtype)
    if out is not None and type(out) is np.ndarray and out.flags.carray:
        return out
    return np.empty(shape, dtype)


def stored(result: Array, out: Array | None) -> Array:
    """The result, in `out` where there is one."""
    if out is None or out is result:
        return result
    out[...] = result
    return out


def _steps(array: Array) -> list[int]:
    """The strides that matter."""
    return [step for step, length in zip(array.strides, array.shape, strict=True) if length > 1]


def address(array: Array) -> int:
    """Where the first element is."""
    place: Any = array
    return int(place.data.ptr if on_device(array) else place.ctypes.data)


def overlap(a: Array, b: Array) -> bool:
    """Do two arrays share memory? Yes, too, where that is too hard to tell."""
    effort: Any = 10_000  # NumPy's declaration knows only 0 and -1
    if type(a) is not np.ndarray or type(b) is not np.ndarray:
        if not may_share(a, b):
            return False
        a, b = addresses(a), addresses(b)
    try:
        return np.shares_memory(a, b, max_work=effort)
    except np.exceptions.TooHardError:
        return True


def check_updated(
    title: str, name: str, array: Any, shape: tuple[int, ...] | None = None, dtype: np.dtype[Any] | None = None
) -> None:
    """An argument that is updated in place must be an array that can take the result as it is."""
    if type(array) is np.ndarray and array.dtype is dtype and array.shape == shape and array.flags.carray:
        return
    wanted = "float16, bfloat16, float32 or float64" if dtype is None else str(dtype)
    if not is_array(array):
        raise TypeError(f"{title}: {name} is {kind(array)}; expected a numpy.ndarray of {wanted} to update in place")
    if not array.dtype.isnative:
        raise TypeError(f"{title}: {name} has non-native byte order ({array.dtype.str}); expected {wanted}")
    if (float_dtype(array.dtype) if dtype is None else dtype) != array.dtype:
        raise TypeError(f"{title}: {name} has dtype {array.dtype}; expected {wanted}")
    if shape is not None and array.shape != shape:
        raise ValueError(f"{title}: {name} has shape {array.shape}; expected {shape}")
    if isinstance(array, np.ndarray) and not array.flags.writeable:
        raise ValueError(f"{title}: {name} is read-only; expected a writeable array")
    if array.size and not array.flags.c_contiguous and 0 in _steps(array):
        raise ValueError(
            f"{title}: {name} has strides {array.strides}, so that its elements share memory; "
            "expected one place for each"
        )
