"""Loops over contiguous arrays, compiled once per formula and dtype and cached on disk.

Numba's disk cache knows a compiled function by its source file and the types of its arguments. So the formula is a
type, that of the first argument (`Kernel`), and a digest of this package's sources belongs to it: every op has its
place in the cache, and a change in any formula is noticed, which Numba by itself would only do for the file of the
loop.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.datamodel.models import OpaqueModel
from numba.extending import NativeValue, intrinsic, register_model, unbox

from fastnn.kernels.jit.half import load_half, store_half
from fastnn.kernels.jit.intrinsics import constant_of
from fastnn.kernels.jit.registry import ACTIVATIONS, CUSTOM, block

BLOCK = 256  # elements for which the near or the general form is chosen together

# Element types in memory, by the name of the dtype: the 16-bit formats as their bits.
MEMORY = {"float32": types.float32, "float64": types.float64, "float16": types.uint16, "bfloat16": types.uint16}
ARRAYS = {"forward": 1, "backward": 2, "parameter_gradient": 2}  # array operands; parameters follow

Entry = Callable[[None, Any, tuple[Any, ...]], None]


@functools.cache
def _digest() -> str:
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]


class Kernel(types.Opaque):  # type: ignore[misc]
    """The type that stands for one pass of one op on one dtype."""

    def __init__(self, op: str, direction: str, dtype: str, digest: str) -> None:
        """Everything that the compiled code depends on is in the name, by which Numba compares types."""
        super().__init__(f"Kernel({op}, {direction}, {dtype}, {digest})")
        self.op, self.direction, self.dtype = op, direction, dtype

    @property
    def number(self) -> Any:
        """The type that formulas compute in."""
        return types.float64 if self.dtype == "float64" else types.float32

    @property
    def formula(self) -> Any:
        """The compiled formula of scalars."""
        return getattr(block(self.op), self.direction)

    @property
    def splits(self) -> bool:
        """Has the formula a cheaper form near 0?"""
        return "near" in inspect.signature(self.formula.py_func).parameters

    @property
    def reach(self) -> float:
        """How far near 0 is."""
        return constant_of(ACTIVATIONS[self.op].reach, self.number)


register_model(Kernel)(OpaqueModel)


@unbox(Kernel)
def _unbox_kernel(kernel: Any, value: Any, c: Any) -> Any:
    return NativeValue(c.context.get_dummy_value())


@functools.cache
def entry(op: str, direction: str, dtype: str, out: str, arrays: tuple[bool, ...]) -> Entry:
    """The compiled loop of one pass, called as entry(None, out, operands).

    `out` is the dtype of the result, and `arrays` says of each parameter whether it is an array as long as the operands
    or one number. Operands are one-dimensional, contiguous and of one length, the 16-bit formats viewed as uint16. The
    result may be one of them, but overlap them in no other way.
    """
    kernel = Kernel(op, direction, dtype, _digest())
    vector = types.Array(MEMORY[dtype], 1, "C")
    parameters = [types.Array(kernel.number, 1, "C") if array else kernel.number for array in arrays]
    operands = types.Tuple([*[vector] * ARRAYS[direction], *parameters])
    loop = _split_loop if kernel.splits else _loop
    if op in CUSTOM:  # of whose sources the digest knows nothing
        loop = njit(**_OPTIONS)(loop.py_func)
    compiled: Entry = loop.compile((kernel, types.Array(MEMORY[out], 1, "C"), operands))
    return compiled


_OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": False, "boundscheck": False}


def _cached(function: Any) -> Any:
    try:
        return njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # no folder to write to
        return njit(**_OPTIONS)(function)


def _element(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [index])


def _read(context: Any, builder: Any, kernel: Kernel, operand_type: Any, operand: Any, index: Any, group: Any) -> Any:
    """The number at `index` of an array operand, or the operand itself."""
    if not isinstance(operand_type, types.Array):
        return operand
    value = builder.load(_element(context, builder, operand_type, operand, index))
    value.align = 1  # any alignment will do
    if group is not None:
        value.set_metadata("llvm.access.group", group)
    return load_half(context, builder, kernel.dtype, value) if operand_type.dtype == types.uint16 else value


class _Node(ir.values.MDValue):  # type: ignore[misc]
    """A distinct metadata node, whose first operand may be itself; llvmlite's own have no identity."""

    def __init__(self, module: Any, operands: list[Any], itself: bool) -> None:
        super().__init__(module, [], name=str(len(module.metadata)))
        self.operands = (*([self] if itself else []), *operands)

    def descr(self, buffer: list[str]) -> None:
        buffer += ("distinct !{", ", ".join(f"{operand.get_reference()}" for operand in self.operands), "}\n")


def _for_each(builder: Any, begin: Any, end: Any, emit: Callable[[Any], None], hints: dict[str, Any]) -> None:
    """Generate a loop over the indices from `begin` below `end`; `hints` are LLVM's loop metadata."""
    module = builder.module
    nodes = [module.add_metadata([ir.MetaDataString(module, f"llvm.loop.{key}"), hints[key]]) for key in hints]
    start, body, done = builder.basic_block, builder.append_basic_block("body"), builder.append_basic_block("done")
    builder.cbranch(builder.icmp_signed("<", begin, end), body, done)
    builder.position_at_end(body)
    index = builder.phi(begin.type)
    index.add_incoming(begin, start)
    emit(index)
    following = builder.add(index, ir.Constant(begin.type, 1), flags=["nsw"])
    index.add_incoming(following, builder.basic_block)
    latch = builder.cbranch(builder.icmp_signed("<", following, end), body, done)
    latch.set_metadata("llvm.loop", _Node(module, nodes, itself=True))
    builder.position_at_end(done)


@intrinsic
def _span(typingctx: Any, kernel: Any, near: Any, out: Any, operands: Any, begin: Any, end: Any) -> Any:
    """Evaluate the kernel's formula from `begin` below `end`.

    The loop is declared free of dependences between its iterations, which arrays that are the same or disjoint do not
    have, so that it is vectorised without a check for overlap, and in place as well.
    """
    function = types.Dispatcher(kernel.formula)
    numbers = [kernel.number] * len(operands)
    called = function.get_call_type(typingctx, (*numbers, types.boolean) if kernel.splits else tuple(numbers), {})

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, near_value, out_array, operand_tuple, first, last = arguments
        implementation = context.get_function(function, called)
        context.add_linking_libs(getattr(implementation, "libs", ()))
        group = _Node(builder.module, [], itself=False)

        def emit(index: Any) -> None:
            values = [
                _read(context, builder, kernel, each, builder.extract_value(operand_tuple, i), index, group)
                for i, each in enumerate(operands)
            ]
            result = implementation(builder, [*values, near_value] if kernel.splits else values)
            if out.dtype == types.uint16:
                result = store_half(context, builder, kernel.dtype, result)
            store = builder.store(result, _element(context, builder, out, out_array, index))
            store.align = 1
            store.set_metadata("llvm.access.group", group)

        hints = {"parallel_accesses": group, "interleave.count": ir.Constant(ir.IntType(32), 2)}
        _for_each(builder, first, last, emit, hints)
        return context.get_dummy_value()

    return types.void(kernel, types.boolean, out, operands, types.intp, types.intp), generate


@intrinsic
def _any_far(typingctx: Any, kernel: Any, operands: Any, begin: Any, end: Any) -> Any:
    """Is any argument of the formula from `begin` below `end` out of the kernel's reach?"""
    first = ARRAYS[kernel.direction] - 1  # x, then the parameters
    argument = ACTIVATIONS[kernel.op].argument
    function = called = None
    if argument is not None:
        function = types.Dispatcher(argument)
        called = function.get_call_type(typingctx, tuple([kernel.number] * len(operands.types[first:])), {})

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, operand_tuple, start, stop = arguments
        found = cgutils.alloca_once_value(builder, cgutils.false_bit)
        implementation = None if function is None else context.get_function(function, called)
        context.add_linking_libs(getattr(implementation, "libs", ()))

        def emit(index: Any) -> None:
            values = [
                _read(context, builder, kernel, each, builder.extract_value(operand_tuple, i), index, None)
                for i, each in enumerate(operands)
                if i == first or (i > first and implementation is not None)
            ]
            value = values[0] if implementation is None else implementation(builder, values)
            size = builder.call(builder.module.declare_intrinsic("llvm.fabs", [value.type]), [value])
            far = builder.fcmp_unordered(">", size, ir.Constant(size.type, kernel.reach))  # NaN included
            builder.store(builder.or_(builder.load(found), far), found)

        _for_each(builder, start, stop, emit, {})
        return builder.load(found)

    return types.boolean(kernel, operands, types.intp, types.intp), generate


@_cached
def _loop(kernel: Any, out: Any, operands: Any) -> None:
    _span(kernel, False, out, operands, 0, out.size)


@_cached
def _split_loop(kernel: Any, out: Any, operands: Any) -> None:
    for begin in range(0, out.size, BLOCK):
        end = min(begin + BLOCK, out.size)
        if _any_far(kernel, operands, begin, end):
            _span(kernel, False, out, operands, begin, end)
        else:
            _span(kernel, True, out, operands, begin, end)
