"""Compiled functions of numbers as real ufuncs of NumPy's, made by its C interface.

Numba's own ufuncs refuse `where=` and know no 16-bit floats; these are NumPy's in everything.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import cfunc, njit, types
from numba.extending import intrinsic

from fastnn.kernels.jit.half import load_half, store_half
from fastnn.kernels.jit.intrinsics import _literal

_MEMORY = {"float16": ir.IntType(16), "bfloat16": ir.IntType(16), "float32": ir.FloatType(), "float64": ir.DoubleType()}
_HALVES = ("float16", "bfloat16")
_LOOP = types.void(*[types.CPointer(types.intp)] * 3, types.voidptr)  # addresses, length, strides, data

_made: list[Any] = []  # NumPy keeps pointers to all of it


def make(name: str, function: Callable[..., Any], inputs: int, doc: str) -> Any:
    """A numpy.ufunc of so many inputs, over the four dtypes (bfloat16 where ml_dtypes is installed)."""
    kinds = ["float16", "float32", "float64"]
    numbers = [np.dtype(kind).num for kind in kinds for _ in range(inputs + 1)]
    loops = [_loop(function, inputs, kind) for kind in kinds]
    functions = (ctypes.c_void_p * len(loops))(*[loop.address for loop in loops])
    data = (ctypes.c_void_p * len(loops))()
    texts = name.encode(), doc.encode(), bytes(numbers)
    ufunc = _create(functions, data, texts[2], len(loops), inputs, 1, -1, texts[0], texts[1], 0)
    _made.append((loops, functions, data, texts))
    with contextlib.suppress(ImportError):
        import ml_dtypes

        number = np.dtype(ml_dtypes.bfloat16).num
        loop, signature = _loop(function, inputs, "bfloat16"), (ctypes.c_int * (inputs + 1))(*[number] * (inputs + 1))
        _register(ufunc, number, loop.address, signature, None)
        _made.append((loop, signature))
    return ufunc


def _interface() -> tuple[Any, Any]:
    """PyUFunc_FromFuncAndData and PyUFunc_RegisterLoopForType, at the places that NumPy's headers fix for them."""
    core = np._core if hasattr(np, "_core") else np.core
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    table = ctypes.cast(pointer(core._multiarray_umath._UFUNC_API, None), ctypes.POINTER(ctypes.c_void_p))
    number, text, address = ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p
    create = ctypes.PYFUNCTYPE(
        ctypes.py_object, address, address, text, number, number, number, number, text, text, number
    )
    register = ctypes.PYFUNCTYPE(number, ctypes.py_object, number, address, address, address)
    return create(table[1]), register(table[2])


_create, _register = _interface()


@intrinsic
def _load(typingctx: Any, kind: Any, address: Any) -> Any:
    """The number at an address, of the memory format that the literal `kind` names."""
    dtype = _literal(kind)
    memory = _MEMORY[dtype]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = builder.load(builder.inttoptr(arguments[1], memory.as_pointer()))
        return load_half(context, builder, dtype, value) if dtype in _HALVES else value

    return (types.float64 if dtype == "float64" else types.float32)(kind, address), generate


@intrinsic
def _store(typingctx: Any, kind: Any, address: Any, value: Any) -> Any:
    """The other way round."""
    dtype = _literal(kind)
    memory = _MEMORY[dtype]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        result = store_half(context, builder, dtype, arguments[2]) if dtype in _HALVES else arguments[2]
        builder.store(result, builder.inttoptr(arguments[1], memory.as_pointer()))
        return context.get_dummy_value()

    return types.void(kind, address, value), generate


def _loop(function: Callable[..., Any], inputs: int, kind: str) -> Any:
    """The inner loop of one dtype, as NumPy calls it. It reads every input before it writes the element."""
    values = ", ".join(f"load({kind!r}, addresses[{i}] + index * strides[{i}])" for i in range(inputs))
    source = (
        "def loop(addresses, length, strides, data):\n"
        "    for index in range(length[0]):\n"
        f"        store({kind!r}, addresses[{inputs}] + index * strides[{inputs}], f({values}))\n"
    )
    space = {"f": njit(error_model="numpy")(function), "load": _load, "store": _store}
    exec(source, space)
    return cfunc(_LOOP, error_model="numpy")(space["loop"])
