"""Arrays of every dtype and layout, and comparison to the last bit."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from oracles import arguments

import fastnn as fnn
from fastnn.kernels.cpu import runtime
from fastnn.op import Op
from fastnn.table import OPS

Array = npt.NDArray[Any]

DTYPES: dict[str, np.dtype[Any]] = {name: np.dtype(name) for name in ("float32", "float64", "float16")}
if importlib.util.find_spec("ml_dtypes"):
    import ml_dtypes

    DTYPES["bfloat16"] = np.dtype(ml_dtypes.bfloat16)

# While a backend is chosen by a with-block, native functions too take the long way to their kernels, through dispatch.
LONG_WAY = "native, the long way"
BACKENDS = ["native", LONG_WAY, "reference", *(["numba"] if importlib.util.find_spec("numba") else [])]
# Numba compiles every op for every dtype anew: there, one op of each kind stands for all in dtypes other than float32.
REPRESENTATIVE = ("relu", "leaky_relu", "prelu", "gelu", "tanh", "hardtanh")


def bits(array: Any) -> Array:
    """The bits of an array, NaN of all kinds alike."""
    array = np.asarray(array)
    unsigned = np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}").reshape(array.shape)
    return np.where(array != array, unsigned.dtype.type(~unsigned.dtype.type(0)), unsigned)


def assert_same_bits(got: Any, expected: Any) -> None:
    """Same shape, dtype and bits."""
    assert np.shape(got) == np.shape(expected)
    assert np.asarray(got).dtype == np.asarray(expected).dtype
    np.testing.assert_array_equal(bits(got), bits(expected))


class Pass:
    """One pass of an op as a function of as many arrays as it takes, with valid parameters."""

    def __init__(self, op: Op, direction: str) -> None:
        self.op, self.direction = op, direction
        self.name = op.name if direction == "forward" else f"{op.name}_backward"
        self.function: Callable[..., Any] = getattr(fnn, self.name)
        self.params = op.parameter_sets[-1]
        self.arrays = 1 if direction == "forward" else 2

    def __call__(self, *arrays: Any, out: Any = None) -> Any:
        """The main result; backward of an op with a learned parameter returns the parameter's gradient beside it."""
        result = self.function(*arrays, *self.params, out=out)
        return result[0] if isinstance(result, tuple) else result

    def inputs(self, dtype: np.dtype[Any], count: int = 400) -> list[Array]:
        """Arguments of every magnitude and every special value: x, or dy and saved."""
        x = arguments(self.op, np.float32, count)
        x = np.concatenate([x, x[-count:][::-1]])  # special values in the middle too
        with np.errstate(all="ignore"):
            if self.direction == "forward":
                return [x.astype(dtype)]
            low, high = self.op.saved_range
            saved = np.where(np.isnan(x), x, np.clip(x, low, high)).astype(dtype)
            return [np.random.default_rng(1).standard_normal(x.size).astype(dtype), saved]

    def __repr__(self) -> str:
        return self.name


PASSES = [Pass(op, direction) for op in OPS.values() for direction in ("forward", "backward")]


def using(backend: str) -> contextlib.AbstractContextManager[Any]:
    """Select one of BACKENDS for a while."""
    return contextlib.nullcontext() if backend == "native" else fnn.use(backend.partition(",")[0])


@contextlib.contextmanager
def active(isa: str) -> Iterator[None]:
    """Select an instruction set for a while."""
    before = runtime.isa()
    runtime.set_isa(isa)
    try:
        yield
    finally:
        runtime.set_isa(before)


@contextlib.contextmanager
def num_threads(n: int) -> Iterator[None]:
    """Set the number of threads for a while."""
    before = fnn.get_num_threads()
    fnn.set_num_threads(n)
    try:
        yield
    finally:
        fnn.set_num_threads(before)


def misaligned(array: Array) -> Array:
    """A copy one byte off its alignment."""
    memory = np.empty(array.nbytes + 1, np.uint8)
    copy = memory[1:].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def _spread(array: Array, *steps: int) -> Array:
    """A copy whose elements lie `steps` apart along its axes, backwards where negative."""
    room = np.zeros([length * abs(step) for length, step in zip(array.shape, steps, strict=True)], array.dtype)
    view = room[tuple(slice(None, None, abs(step)) for step in steps)]
    view = view[tuple(slice(None, None, 1 if step > 0 else -1) for step in steps)]
    view[...] = array
    return view


# Copies of a 3-D array that lie in memory in many ways.
LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "contiguous": np.ascontiguousarray,
    "misaligned": misaligned,
    "every second": lambda a: _spread(a, 1, 1, 2),
    "every third, backwards": lambda a: _spread(a, 1, 1, -3),
    "backwards": lambda a: _spread(a, -1, -1, -1),
    "rows apart": lambda a: _spread(a, 1, 2, 1),
    "odd strides": lambda a: _spread(a, -3, 5, 7),
    "Fortran order": np.asfortranarray,
    "transposed": lambda a: np.ascontiguousarray(a.transpose(2, 0, 1)).transpose(1, 2, 0),
    "misaligned and strided": lambda a: misaligned(np.repeat(a, 2, axis=2))[:, :, ::2],
    "in a record": lambda a: _field(a),
}


def _field(array: Array) -> Array:
    records = np.zeros(
        array.shape, [("before", "u1"), ("value", array.dtype), ("after", "u2")]
    )  # 3 bytes and the value apart
    records["value"] = array
    return records["value"]
