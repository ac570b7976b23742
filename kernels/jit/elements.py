"""Arrays of the four dtypes in compiled loops, element by element.

Numba has no float16 and no bfloat16: `memory` hands them over as their bits, unsigned for the one, signed for the
other, so that the type of the array says how to read it. Formulas see float32, or float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic

from fastnn.kernels.jit.half import load_half, store_half
from fastnn.kernels.jit.loops import _element, _for_each, _Node

Array = npt.NDArray[Any]

_HALVES = {types.uint16: "float16", types.int16: "bfloat16"}


def memory(array: Array) -> Array:
    """The array, flat, as compiled loops take it. It is C-contiguous."""
    if array.itemsize == 2:
        array = array.view(np.uint16 if array.dtype == np.float16 else np.int16)
    return array.reshape(-1)


def number_of(dtype: np.dtype[Any]) -> Any:
    """The type in which elements of `dtype` are computed."""
    return np.float64 if dtype == np.float64 else np.float32


def cached(function: Any) -> Any:
    """Compile a loop, once per type of its arguments, and keep it on disk where there is a folder to write to."""
    options = {"nogil": True, "error_model": "numpy", "fastmath": False, "boundscheck": False}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:
        return njit(**options)(function)


def _number(array: Any) -> Any:
    if not isinstance(array, types.Array) or array.ndim != 1:
        raise TypingError(f"expected a flat array, got {array}")
    return types.float32 if array.dtype in _HALVES else array.dtype


def _read(context: Any, builder: Any, array_type: Any, array: Any, index: Any, group: Any = None) -> Any:
    value = builder.load(_element(context, builder, array_type, array, index))
    value.align = 1
    if group is not None:
        value.set_metadata("llvm.access.group", group)
    half = _HALVES.get(array_type.dtype)
    return value if half is None else load_half(context, builder, half, value)


def _write(context: Any, builder: Any, array_type: Any, array: Any, index: Any, value: Any, group: Any = None) -> None:
    half = _HALVES.get(array_type.dtype)
    if half is not None:
        value = store_half(context, builder, half, value)
    store = builder.store(value, _element(context, builder, array_type, array, index))
    store.align = 1
    if group is not None:
        store.set_metadata("llvm.access.group", group)


@intrinsic
def read(typingctx: Any, array: Any, index: Any) -> Any:
    """The element at `index` of a flat array of any dtype, as a number."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _read(context, builder, array, *arguments)

    return _number(array)(array, types.intp), generate


@intrinsic
def write(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """Store a number, rounded to the array's dtype, at `index`."""
    if value != _number(array):
        raise TypingError(f"expected {_number(array)} for {array}, got {value}")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _write(context, builder, array, *arguments)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), generate


@intrinsic
def sweep(typingctx: Any, formula: Any, outputs: Any, inputs: Any, numbers: Any) -> Any:
    """outputs[k][i] = formula(inputs[0][i], ..., *numbers)[k] for every i.

    Outputs may be inputs, and overlap them in no other way: the loop is declared free of dependences between its
    iterations, which a compiler that checked every pair of arrays for overlap would not vectorise.
    """
    types_in = [_number(each) for each in inputs]
    called = formula.get_call_type(typingctx, (*types_in, *numbers), {})

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, outs, ins, settings = arguments
        function = context.get_function(formula, called)
        context.add_linking_libs(getattr(function, "libs", ()))
        group = _Node(builder.module, [], itself=False)
        arrays = [builder.extract_value(ins, k) for k in range(len(inputs))]
        results = [builder.extract_value(outs, k) for k in range(len(outputs))]
        fixed = [builder.extract_value(settings, k) for k in range(len(numbers))]
        size = context.make_array(inputs[0])(context, builder, arrays[0]).nitems

        def emit(index: Any) -> None:
            values = [
                _read(context, builder, kind, array, index, group) for kind, array in zip(inputs, arrays, strict=True)
            ]
            made = function(builder, [*values, *fixed])
            for k, (kind, array) in enumerate(zip(outputs, results, strict=True)):
                _write(context, builder, kind, array, index, builder.extract_value(made, k), group)

        hints = {"parallel_accesses": group, "interleave.count": cgutils.int32_t(2)}
        _for_each(builder, context.get_constant(types.intp, 0), size, emit, hints)
        return context.get_dummy_value()

    return types.void(formula, outputs, inputs, numbers), generate
