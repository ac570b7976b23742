"""The stand-in's RawModule: kernels compiled for the host, started with arguments as CuPy takes them."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from emulator import build
from emulator.cupy import cuda
from emulator.cupy.array import ndarray
from emulator.cupy.record import Started, note, settings


class RawKernel:
    """One kernel of a RawModule."""

    def __init__(self, name: str, kernel: Any) -> None:
        self.name, self.kernel = name, kernel

    def __call__(
        self, grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...], *, shared_mem: int = 0
    ) -> None:
        blocks, threads = _one_dimension("grid", grid), _one_dimension("block", block)
        if shared_mem:
            raise NotImplementedError("the emulator has no dynamic shared memory")
        converted = [_argument(self.name, arg) for arg in args]
        arguments = (build.Argument * max(len(converted), 1))(*[each for each, _ in converted])
        first = 0 if settings.only_last is None else max(blocks - settings.only_last, 0)
        launch = build.Launch(blocks, first, blocks, threads, settings.order, settings.seed, len(converted), arguments)
        note("launches", Started(self.name, blocks, threads, cuda.current_device(), cuda.get_current_stream()))
        wrong = self.kernel(ctypes.byref(launch))
        if wrong:
            raise AssertionError(f"{self.name}: {wrong.decode()}")
        for arg in args:
            if isinstance(arg, ndarray):
                arg.owner.check()


class RawModule:
    """`cupy.RawModule`, of sources that NVRTC compiles."""

    def __init__(
        self, *, code: str, options: tuple[str, ...] = (), backend: str = "nvrtc", name_expressions: Any = None
    ) -> None:
        if not (isinstance(code, str) and isinstance(options, tuple) and backend == "nvrtc" and name_expressions):
            raise TypeError("expected code as a str, options as a tuple, name_expressions")
        self.code, self.options, self.names = code, options, tuple(name_expressions)

    def get_function(self, name: str) -> RawKernel:
        if name not in self.names:
            raise KeyError(name)
        found = build.find(self.code, self.options, name)
        return RawKernel(name, found or build.library(self.code, self.options, self.names).kernels[name])


def _one_dimension(what: str, sizes: tuple[int, ...]) -> int:
    if not isinstance(sizes, tuple) or any(size != 1 for size in sizes[1:]):
        raise TypeError(f"{what} is {sizes!r}; expected one dimension")
    return sizes[0]


def _argument(name: str, value: Any) -> tuple[build.Argument, Any]:
    """A kernel's argument, and what must live as long: CuPy passes Python's numbers as int64, float64 and bool.

    A struct is a NumPy array of one element; CuPy does not take what indexing makes of that, a numpy.void.
    """
    if isinstance(value, ndarray):
        if value.owner.device != cuda.current_device():
            raise AssertionError(f"{name}: an array on device {value.owner.device} on device {cuda.current_device()}")
        kept, item, kind = np.array(value.values.ctypes.data, np.uint64), value.itemsize, b"p"
    else:
        if type(value) in (bool, int, float):
            value = {bool: np.bool_, int: np.int64, float: np.float64}[type(value)](value)
        if not isinstance(value, (np.generic, np.ndarray)) or isinstance(value, np.void) or value.size != 1:
            raise TypeError(f"Unsupported type {type(value)}")
        kept, item = np.array(value), 0
        kind = b"v" if kept.ndim or kept.dtype.names else b"f" if kept.dtype.kind == "f" else b"i"
    return build.Argument(kept.ctypes.data, kept.nbytes, item, kind), kept
