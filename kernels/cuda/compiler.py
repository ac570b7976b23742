"""Families of kernels: their sources, compiled by CuPy's RawModule when first needed, and how they are launched."""

from __future__ import annotations

import functools
import hashlib
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from fastnn.optional import need

HERE = Path(__file__).resolve().parent
FOLDERS = (HERE, HERE.parent / "include")
# IEEE arithmetic to the letter, as on the CPU: products and sums are fused where the formulas say fmadd and nowhere
# else, subnormal numbers are kept, divisions and square roots rounded correctly.
OPTIONS = ("-std=c++17", "--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true")
TYPES = {
    "float32": "float",
    "float64": "double",
    "float16": "fastnn::cuda::half",
    "bfloat16": "fastnn::cuda::bfloat16",
}

BLOCK = 256  # threads
# Blocks for each multiprocessor: a few times what it holds at once, so that none is idle for long at the end, and few
# enough for what a thread does before its loop to matter little.
BLOCKS_EACH = 32

_lock = threading.Lock()


def cupy() -> Any:
    """The module cupy; ImportError with what to install where there is none."""
    return sys.modules.get("cupy") or need("cupy", "the CUDA backend", "cuda")


def require() -> Any:
    """The module cupy, where there is a device to use it on; else an error that says what is missing."""
    module = cupy()
    missing = "no CUDA device was found"
    try:
        if module.cuda.runtime.getDeviceCount():
            return module
    except module.cuda.runtime.CUDARuntimeError as error:
        missing = str(error)
    raise RuntimeError(f"the CUDA backend needs an NVIDIA GPU and its driver: {missing}")


class Family:
    """The kernels of one source, `<name>.cu`: `expressions` are all that it is to be instantiated for.

    They are C++ names within `fastnn::cuda`, `{T}` standing for the type of an element and `{V}` for compute_t<T>,
    float or double: "rows<{T}>", "rows<{T}, true>".
    All of a dtype are compiled together; `separately`, each on its own when it is first needed.
    """

    def __init__(
        self, name: str, *expressions: str, dtypes: tuple[str, ...] = tuple(TYPES), separately: bool = False
    ) -> None:
        self.name, self.expressions, self.dtypes, self.separately = name, expressions, dtypes, separately
        self._kernels: dict[tuple[Any, int, str, str], Any] = {}

    def kernel(self, expression: str, dtype: Any) -> Any:
        """The kernel of that expression for arrays of `dtype` on the current device, compiled if it is new there."""
        module = cupy()
        key = module, int(module.cuda.runtime.getDevice()), expression, np.dtype(dtype).name
        found = self._kernels.get(key)
        if found is None:
            with _lock:  # two threads that need the same kernel compile it once
                found = self._kernels.get(key) or self._compile(*key)
        return found

    def names(self, dtype: str, expressions: tuple[str, ...] | None = None) -> list[str]:
        """The C++ names of the kernels (of some of them) for a dtype."""
        chosen = self.expressions if expressions is None else expressions
        computed = "double" if dtype == "float64" else "float"
        return [f"fastnn::cuda::{each}".replace("{T}", TYPES[dtype]).replace("{V}", computed) for each in chosen]

    def _compile(self, cupy: Any, device: int, expression: str, dtype: str) -> Any:
        if expression not in self.expressions or dtype not in self.dtypes:
            raise KeyError(f"{self.name}.cu has no kernel {expression} for {dtype}")
        chosen = (expression,) if self.separately else self.expressions
        names = self.names(dtype, chosen)
        different = tuple(dict.fromkeys(names))  # {T} may be {V}
        module = cupy.RawModule(code=source(self.name), options=options(), name_expressions=different)
        for each, name in zip(chosen, names, strict=True):
            self._kernels[cupy, device, each, dtype] = module.get_function(name)
        return self._kernels[cupy, device, expression, dtype]


def source(name: str) -> str:
    """The text that is compiled. It names what it includes by content, for CuPy's cache on disk does not look there."""
    return f'// {_digest()}\n#include "{name}.cu"\n'


def options() -> tuple[str, ...]:
    """The options of the compiler."""
    return (*OPTIONS, *(f"-I{folder}" for folder in FOLDERS))


@functools.cache
def _digest() -> str:
    found = hashlib.sha256()
    for folder in FOLDERS:
        for path in sorted(folder.rglob("*.[ch]*")):
            if path.suffix in (".cu", ".cuh", ".hpp"):
                found.update(path.read_bytes())
    return found.hexdigest()


def compute_dtype(dtype: Any) -> np.dtype[Any]:
    """The dtype that elements of `dtype` are computed in: float64's own, float32 for the others."""
    return np.dtype(np.float64 if np.dtype(dtype) == np.float64 else np.float32)


def scalar(value: Any, dtype: Any) -> Any:
    """A number as a kernel for arrays of `dtype` takes it: of type `compute_t<T>`."""
    return compute_dtype(dtype).type(value)


def contiguous(array: Any) -> Any:
    """The array, or a copy of it on the device where it is not C-contiguous."""
    return cupy().ascontiguousarray(array)


def launch(kernel: Any, blocks: int, *args: Any, threads: int = BLOCK) -> None:
    """Start `blocks` blocks on the current stream, if any.

    Numbers are made by `scalar`; ints become 64-bit integers, None a null pointer.
    """
    if blocks <= 0:
        return
    kernel((blocks,), (threads,), tuple([_argument(arg) for arg in args]))


def launch_elements(kernel: Any, elements: int, item: int, *args: Any, packs: int = 1) -> None:
    """Start a kernel over `elements` elements of `item` bytes, of which a thread takes `packs` of 16 bytes at a time.

    `elementwise` takes two where it has one input.
    """
    launch(kernel, blocks_for(-(-elements * item // (16 * packs))), *args)


def launch_rows(kernel: Any, rows: int, *args: Any, threads: int = BLOCK) -> None:
    """Start a kernel whose blocks take a row each."""
    launch(kernel, min(rows, most_blocks()), *args, threads=threads)


def blocks_for(work: int, threads: int = BLOCK) -> int:
    """How many blocks to start for `work` pieces of work, one for each thread at a time; 0 for none."""
    return min(-(-work // threads), most_blocks())


def most_blocks() -> int:
    """How many blocks are worth starting on the current device."""
    module = cupy()
    return _multiprocessors(module, int(module.cuda.runtime.getDevice())) * BLOCKS_EACH


@functools.cache
def _multiprocessors(cupy: Any, device: int) -> int:
    return int(cupy.cuda.Device(device).attributes["MultiProcessorCount"])


def _argument(value: Any) -> Any:
    if value is None:  # a null pointer
        return np.uint64(0)
    if isinstance(value, float):
        if isinstance(value, np.float64):
            return value
        raise TypeError(f"a kernel's argument is the Python float {value!r}; expected scalar(value, dtype)")
    return np.int64(value) if isinstance(value, int) and not isinstance(value, bool) else value
